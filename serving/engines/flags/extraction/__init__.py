"""Extracts the flags of a version from its source, by reading it as text: nothing of the engine is imported."""
