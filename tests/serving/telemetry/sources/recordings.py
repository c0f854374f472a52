"""Writes the recorded traces that `recorded` plays back."""

import gzip
import json
from dataclasses import asdict
from typing import Any

from serving.telemetry.sources.recorded import Recording


def to_jsonl(recording: Recording, about: dict[str, Any]) -> bytes:
    """Gzipped JSON lines: `about` (date, machine, …) and the devices, then a reading a line."""
    power_kind, devices, readings = recording
    head = {**about, "power_kind": power_kind, "devices": [asdict(each) for each in devices]}
    rows = ({k: v for k, v in asdict(each).items() if v is not None} for each in readings)
    lines = "".join(json.dumps(each) + "\n" for each in (head, *rows))
    return gzip.compress(lines.encode(), mtime=0)
