"""Steady state of an emulated engine as equations, without running it."""
