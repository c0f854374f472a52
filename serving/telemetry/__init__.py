"""Power, devices and provenance of a node, and when its energy figures are valid."""
