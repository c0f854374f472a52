"""The flags of each framework's versions as data: what a version knows, and what is wrong in a command line.

`schemas/` holds one JSON file a version, with its source and date. `schema` reads them, `installed` finds the
version beside an executable, `check` judges a command line, `layouts` translates a topology.
"""
