"""Death certificates: why an engine ended, by its log. One table an engine, and one for what all share."""
