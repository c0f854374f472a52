"""The ledger, the Pareto set, and the best of each SLO tier."""
