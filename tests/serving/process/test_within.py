"""A call without a deadline of its own gets one."""

import threading

import pytest

from serving.process.within import within


def test_it_returns_or_raises_what_the_call_does() -> None:
    assert within(60.0, lambda: 7) == 7
    error = ValueError("of the call")
    assert within(60.0, lambda: error) is error

    def fail() -> None:
        raise error

    with pytest.raises(ValueError, match="of the call"):
        within(60.0, fail)


def test_a_call_that_does_not_end_in_time_is_left_behind() -> None:
    released = threading.Event()
    with pytest.raises(TimeoutError, match=r"no answer within 0\.1 s"):
        within(0.1, released.wait)
    released.set()
