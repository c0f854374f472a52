"""Samples a source of counters for the length of a with block, on a thread of its own."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from serving.telemetry.trace import CounterTrace

EVERY_S = 0.5


@dataclass(frozen=True, slots=True)
class Sample:
    """All counters of a source at one moment of the monotonic clock."""

    at_ns: int
    values: dict[str, float]


Read = Callable[[], Sample | None]  # None: the source does not answer


@dataclass(slots=True)
class Meter:
    """`trace()` may be asked at any time; None while there are less than two samples."""

    source: str
    samples: list[Sample] = field(default_factory=list)

    def trace(self) -> CounterTrace | None:
        """Of the counters that the first sample has; a sample that lacks one is left out."""
        if len(self.samples) < 2:
            return None
        names = tuple(self.samples[0].values)
        whole = [each for each in self.samples if tuple(each.values) == names]
        return CounterTrace(
            np.array([each.at_ns for each in whole], np.int64),
            np.array([list(each.values.values()) for each in whole]),
            names,
            self.source,
        )


@contextmanager
def metered(read: Read, source: str, every_s: float = EVERY_S) -> Iterator[Meter]:
    """The first sample is taken before the block begins, the last one after its end."""
    meter, over = Meter(source), threading.Event()

    def sample() -> None:
        each = read()
        if each is not None:
            meter.samples.append(each)

    def go_on() -> None:
        while not over.wait(every_s):
            sample()

    sample()
    thread = threading.Thread(target=go_on, daemon=True, name=f"meter {source}")
    thread.start()
    try:
        yield meter
    finally:
        over.set()
        thread.join()
        sample()
