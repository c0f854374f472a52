"""What a node says of itself: devices, power, provenance."""
