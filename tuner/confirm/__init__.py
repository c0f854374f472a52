"""Measures the best of a search again, in rounds, until a winner is named or the race is inconclusive."""
