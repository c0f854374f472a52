"""Search on curves: a Gaussian process over (configuration × load), and the gain of whole curves."""
