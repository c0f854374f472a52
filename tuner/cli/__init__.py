"""The `wattfront` command: one file per group of commands."""
