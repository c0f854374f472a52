"""The quality gate: whether a configuration that changes numerics still answers like the study's reference."""
