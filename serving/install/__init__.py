"""Environments of engines, models, and what this machine lacks."""
