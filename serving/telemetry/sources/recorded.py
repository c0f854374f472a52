"""Plays a recorded trace back as if it were read now."""

import gzip
import json
import time
import zlib
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from serving.telemetry import power_file
from serving.telemetry.base import Device, PowerKind, Reading, SourceError

EVERY_S, GAP_S = 0.1, 2.0
Recording = tuple[PowerKind, Sequence[Device], Sequence[Reading]]


class RecordedSource:
    """Use `opened`. The first reading comes at once, the others at their recorded intervals."""

    kind = "recorded"
    every_s, gap_s = EVERY_S, GAP_S

    def __init__(self, recording: Recording) -> None:
        self.power_kind, devices, readings = recording
        self.devices = tuple(devices)
        self._readings = sorted(readings, key=_time_of)
        self._next = 0
        self._shift_ns = time.monotonic_ns() - self._readings[0].at_ns

    def read(self) -> list[Reading]:
        """The readings due by now, and each device's next one, so that what lies between is known up to now."""
        now_ns = time.monotonic_ns() - self._shift_ns
        end = bisect_right(self._readings, now_ns, lo=self._next, key=_time_of)
        coming = {each.name for each in self.devices}
        while coming and end < len(self._readings):
            coming.discard(self._readings[end].device)
            end += 1
        due = self._readings[self._next : end]
        self._next = end
        return [replace(each, at_ns=each.at_ns + self._shift_ns) for each in due]


def _time_of(reading: Reading) -> int:
    return reading.at_ns


@contextmanager
def opened(path: Path) -> Iterator[RecordedSource]:
    """Raises SourceError if the file is no recorded trace, or has no readings."""
    try:
        recording = load(path)
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError) as error:
        raise SourceError(f"{path} is no recorded trace: {error}") from error
    if not recording[2]:
        raise SourceError(f"{path} has no readings")
    yield RecordedSource(recording)


def load(path: Path) -> Recording:
    """A trial's `power.parquet`, or JSON lines (`.jsonl`, `.jsonl.gz`): a head with devices, then readings."""
    if path.suffix == ".parquet":
        return power_file.read(path.read_bytes())
    raw = path.read_bytes()
    lines = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode().splitlines()
    head, *rest = (json.loads(line) for line in lines)
    devices = tuple(Device(**each) for each in head["devices"])
    return head["power_kind"], devices, [Reading(**each) for each in rest]
