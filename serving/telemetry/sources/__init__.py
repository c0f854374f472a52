"""Power sources, one file each; their configuration, and the factory that opens them."""
