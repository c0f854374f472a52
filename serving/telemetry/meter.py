"""Samples a source for the length of a with block, on a thread of its own."""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field

import numpy as np

from serving.telemetry.base import Boundary, PowerSource, Reading, SourceError
from serving.telemetry.trace import CounterTrace, PowerTrace, device_trace

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
    meter = Meter(source)

    def sample() -> None:
        each = read()
        if each is not None:
            meter.samples.append(each)

    with _ticking(sample, every_s, source):
        yield meter


@dataclass(slots=True)
class Recorder:
    """What one source of power told so far; `trace()` may be asked at any time."""

    kind: str
    boundaries: frozenset[Boundary]
    source: PowerSource | None = None
    readings: list[Reading] = field(default_factory=list)
    silent_because: str = ""

    def sample(self) -> None:
        assert self.source is not None
        try:
            self.readings += self.source.read()
        except SourceError as error:
            self.silent_because = str(error)

    def trace(self) -> PowerTrace:
        source, because = self.source, self.silent_because
        if source is None:
            return PowerTrace(self.kind, "instant", 0.0, (), because, self.boundaries)
        readings = tuple(self.readings)
        devices = tuple(device_trace(device, readings) for device in source.devices)
        kind, gap_s = source.power_kind, source.gap_s
        return PowerTrace(self.kind, kind, gap_s, devices, because, self.boundaries)


@contextmanager
def power_metered(
    kind: str, boundaries: frozenset[Boundary], opened: AbstractContextManager[PowerSource]
) -> Iterator[Recorder]:
    """A source that can't be opened is no error here: its trace says why it is empty."""
    recorder = Recorder(kind, boundaries)
    with ExitStack() as stack:
        try:
            recorder.source = stack.enter_context(opened)
        except SourceError as error:
            recorder.silent_because = str(error)
        if recorder.source is not None:
            stack.enter_context(_ticking(recorder.sample, recorder.source.every_s, kind))
        yield recorder


@contextmanager
def _ticking(tick: Callable[[], None], every_s: float, name: str) -> Iterator[None]:
    """Once before the block, every `every_s` during it, and once after it."""
    over = threading.Event()
    bugs: list[Exception] = []

    def go_on() -> None:
        while not over.wait(every_s):
            try:
                tick()
            except Exception as error:  # noqa: BLE001  (raised again by who waits for the thread)
                bugs.append(error)
                return

    tick()
    thread = threading.Thread(target=go_on, daemon=True, name=f"meter {name}")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        tick()
    if bugs:
        raise bugs[0]
