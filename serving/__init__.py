"""Engines and machines: starts an engine, proves that it is the right one, meters it, ends it."""
