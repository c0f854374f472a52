"""Joining a Ray cluster that runs already: its address and token, and what its nodes lack."""
