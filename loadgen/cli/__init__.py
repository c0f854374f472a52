"""The command line of `python -m loadgen`, its tables, and the export to vLLM's result format."""
