"""What Ctrl-C does to a running study."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from tuner.study.study import Study


@contextmanager
def interruptible(study: Study) -> Iterator[None]:
    """The first Ctrl-C closes the study; the second, or SIGTERM, raises KeyboardInterrupt at once."""

    def once(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, now)
        study.close()

    def now(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, once)
    signal.signal(signal.SIGTERM, now)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
