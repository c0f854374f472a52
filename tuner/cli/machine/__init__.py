"""The commands about this machine: engine environments, models, and what is missing."""
