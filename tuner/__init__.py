"""Studies: configuration, search, trials, results, reports. Composes `loadgen` and `serving`."""
