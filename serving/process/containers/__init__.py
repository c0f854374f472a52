"""Engines in container images: the command of each runtime, and containers that end with their owner."""
