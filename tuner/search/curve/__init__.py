"""Search on curves: a Gaussian process over (configuration × load), and the expected gain of whole curves."""
