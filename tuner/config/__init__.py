"""From overrides to a validated study, and from a point of its space to a trial's configuration."""
