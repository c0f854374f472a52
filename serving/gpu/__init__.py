"""GPU memory; power limits and clocks of GPUs, set for a trial and reset whatever happens."""
