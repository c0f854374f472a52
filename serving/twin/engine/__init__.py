"""The emulated engine: scheduler, KV blocks, batches, power, on any clock."""
