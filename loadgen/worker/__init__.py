"""The processes that send requests, one per core, here or on another node."""
