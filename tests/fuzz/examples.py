"""How many cases the tests with generated input try.

`make check` tries a share of what `make test` does: `WATTFRONT_EXAMPLES=0.1`. 20 tries twenty times as many.
"""

import os

FACTOR = float(os.environ.get("WATTFRONT_EXAMPLES", "1"))


def examples(number: int) -> int:
    """So many in `make test`."""
    return max(1, round(number * FACTOR))
