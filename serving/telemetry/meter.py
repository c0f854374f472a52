"""Samples a source for the length of a with block, on a thread of its own."""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field

import numpy as np

from serving.process.within import within
from serving.telemetry.base import Boundary, PowerSource, Reading, SourceError
from serving.telemetry.trace import CounterTrace, PowerTrace, device_trace

EVERY_S = 0.5
ANSWER_S = (
    30.0  # for a reading, before and after the block: a driver that hangs must not stop the trial
)


@dataclass(frozen=True, slots=True)
class Sample:
    """All counters of a source at one moment of the monotonic clock."""

    at_ns: int
    values: dict[str, float]


Read = Callable[[], Sample | None]  # None: the source did not answer


@dataclass(slots=True)
class Meter:
    """The samples so far."""

    source: str
    samples: list[Sample] = field(default_factory=list)

    def trace(self) -> CounterTrace | None:
        """The counters of the first sample; samples that lack one are left out. None below two samples."""
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

    with _periodically(sample, every_s, source):
        yield meter


@dataclass(slots=True)
class Recorder:
    """The readings of one power source so far. `absent_because`: why there are none, or no more."""

    kind: str
    boundaries: frozenset[Boundary]
    source: PowerSource | None = None
    readings: list[Reading] = field(default_factory=list)
    absent_because: str = ""

    def sample(self) -> None:
        """Takes a reading; a failure is kept as `absent_because`."""
        assert self.source is not None
        try:
            self.readings += self.source.read()
        except SourceError as error:
            self.absent_because = str(error)

    def hangs(self) -> None:
        """Notes that the source does not answer."""
        self.absent_because = f"{self.kind} did not answer within {ANSWER_S:g} s"

    def trace(self) -> PowerTrace:
        """All readings as a trace; empty, with the reason, if the source could not be opened."""
        source, because = self.source, self.absent_because
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
    """Meters a source. One that can't be opened is not an error: its trace is empty and says why."""
    recorder = Recorder(kind, boundaries)
    with ExitStack() as stack:
        try:
            recorder.source = stack.enter_context(opened)
        except SourceError as error:
            recorder.absent_because = str(error)
        if recorder.source is not None:
            every_s = recorder.source.every_s
            stack.enter_context(_periodically(recorder.sample, every_s, kind, recorder.hangs))
        yield recorder


@contextmanager
def _periodically(
    sample: Callable[[], None],
    every_s: float,
    name: str,
    hangs: Callable[[], None] = lambda: None,
) -> Iterator[None]:
    """Calls it once before the block, every `every_s` seconds during it, and once after it.

    `hangs` is called if one before or after the block takes more than ANSWER_S, and no more samples are taken.
    """
    done = threading.Event()
    errors: list[Exception] = []

    def loop() -> None:
        while not done.wait(every_s):
            try:
                sample()
            except Exception as error:  # noqa: BLE001  (raised again after the block)
                errors.append(error)
                return

    def answers() -> bool:
        try:
            within(ANSWER_S, sample)
        except TimeoutError:
            hangs()
            return False
        return True

    if not answers():
        yield
        return
    thread = threading.Thread(target=loop, daemon=True, name=f"meter {name}")
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(ANSWER_S)
        if thread.is_alive():
            hangs()
        else:
            answers()
    if errors:
        raise errors[0]
