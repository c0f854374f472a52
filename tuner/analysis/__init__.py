"""Explains a study from its results: surrogate, parameter importance, prediction error, payback, fleets."""
