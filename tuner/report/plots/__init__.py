"""What people see: Pareto front, Goldilocks zone, a fleet's day."""
