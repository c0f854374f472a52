"""What a configuration must meet before anything starts."""
