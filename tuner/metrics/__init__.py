"""Every metric that is derived from measurements: energy, efficiency, earnings. Pure."""
