"""When requests fall due: pure arithmetic over a seed."""

import numpy as np
from numpy.typing import NDArray


def poisson_offsets_ns(
    rate_per_s: float, horizon_s: float, seed: tuple[int, ...]
) -> NDArray[np.int64]:
    """Offsets of a Poisson process from its start, up to the horizon.

    The process is drawn as it is, neither thinned to a count nor stretched to a mean: a short draw
    may hold more or fewer requests than rate × horizon.
    """
    random = np.random.default_rng(seed)
    mean = rate_per_s * horizon_s
    draws = int(mean + 6 * mean**0.5 + 16)
    offsets_s = np.cumsum(random.exponential(1 / rate_per_s, draws))
    while offsets_s[-1] < horizon_s:
        more_s = np.cumsum(random.exponential(1 / rate_per_s, draws))
        offsets_s = np.concatenate((offsets_s, offsets_s[-1] + more_s))
    return (offsets_s[offsets_s < horizon_s] * 1e9).astype(np.int64)


def staggered_offsets_ns(count: int, over_s: float) -> NDArray[np.int64]:
    """Evenly spaced starts of closed-loop users.

    Users who all start at once would charge the first burst to the server and march in step after.
    """
    return (np.arange(count) * (over_s / count) * 1e9).astype(np.int64)
