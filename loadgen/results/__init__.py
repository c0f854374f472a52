"""Request records, and everything computed from them: steady window, metrics, precision."""
