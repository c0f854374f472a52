"""The emulated engine as an HTTP server on the wall clock."""
