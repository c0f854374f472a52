"""Predictions of curves before they are measured: by the twin, a roofline, or an older study."""
