"""Keeps linear algebra to one thread.

The matrices of a surrogate are small: more threads wait for each other longer than they compute, and take the
cores from the engines and the load that run beside.
"""

from contextlib import AbstractContextManager
from functools import cache
from typing import Any

# Imported first: a controller knows only the libraries that are loaded when it is made.
import scipy.linalg  # noqa: F401
from threadpoolctl import ThreadpoolController


@cache
def _controller() -> Any:
    return ThreadpoolController()


def single_threaded() -> AbstractContextManager[Any]:
    """Inside it, BLAS computes in one thread."""
    limit: AbstractContextManager[Any] = _controller().limit(limits=1, user_api="blas")
    return limit
