"""What ledgers of format 1 (0.1.0) called things, and what they lack. Pure."""

import math
import re

RENAMED = {"given_up": "pruned"}  # keys of a result: until 0.1.0 → now
_STEADY_LOAD = re.compile(r"(?:closed|constant|poisson|gamma) ([0-9.e+-]+)(?:/s)?")


def labelled_load(label: str) -> float | None:
    """The load of a point of 0.1.0, which has it only in its label, such as "poisson 2.5/s"."""
    found = _STEADY_LOAD.fullmatch(label)
    try:
        load = float(found[1]) if found else math.nan
    except ValueError:  # such as "1.2.3"
        load = math.nan
    return load if math.isfinite(load) else None
