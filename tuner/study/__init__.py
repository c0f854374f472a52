"""Runs a study: budget, capacity, Ray Tune or a local pool of processes."""
