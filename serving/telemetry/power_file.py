"""Raw power readings as a Parquet file, one row per reading, in the trial's folder beside its records."""

import json
from collections.abc import Sequence
from dataclasses import fields
from io import BytesIO

import numpy as np

from serving.telemetry.base import Device, PowerKind, Reading
from serving.telemetry.trace import COLUMNS, DeviceTrace, PowerTrace

FILE = "power.parquet"


def to_bytes(traces: Sequence[PowerTrace]) -> bytes:
    """A row per reading: source, device, boundary, role, at_ns, the COLUMNS, foreign, fault.

    `at_ns` is of the monotonic clock, as in the records. The schema's metadata has the power kind of each
    source, and why it stopped.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [(trace, each) for trace in traces for each in trace.devices]
    columns = {
        "source": _repeated([trace.source for trace, _ in rows], rows),
        "device": _repeated([each.device.name for _, each in rows], rows),
        "boundary": _repeated([each.device.boundary for _, each in rows], rows),
        "role": _repeated([each.device.role for _, each in rows], rows),
        "at_ns": _joined([each.at_ns for _, each in rows], np.int64),
    }
    for name in COLUMNS:
        values = _joined([each.columns[name] for _, each in rows], np.float64)
        columns[name] = pa.array(values, from_pandas=True)  # NaN → null
    columns["foreign"] = pa.array(
        [text for _, each in rows for text in _texts(each, each.foreign, None)], pa.string()
    )
    columns["fault"] = [text for _, each in rows for text in _texts(each, each.faults, "")]
    sources = {
        trace.source: {"power_kind": trace.power_kind, "absent_because": trace.absent_because}
        for trace in traces
    }
    table = pa.table(columns).replace_schema_metadata({"sources": json.dumps(sources)})
    out = BytesIO()
    pq.write_table(table, out, compression="zstd")
    return out.getvalue()


def read(data: bytes) -> tuple[PowerKind, list[Device], list[Reading]]:
    """The power kind, devices and readings of the first source in the file. Raises ValueError."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(pa.BufferReader(data))
        sources = json.loads((table.schema.metadata or {})[b"sources"])
    except (pa.ArrowInvalid, KeyError) as error:
        raise ValueError(f"not a file of power readings ({error})") from error
    names = {each.name for each in fields(Reading)}
    rows = [row for row in table.to_pylist() if row["source"] == next(iter(sources))]
    devices = dict.fromkeys(Device(r["device"], r["boundary"], r["role"]) for r in rows)
    readings = [Reading(**{k: v for k, v in row.items() if k in names}) for row in rows]
    return next(iter(sources.values()))["power_kind"], list(devices), readings


def _repeated(values: Sequence[str], rows: Sequence[tuple[PowerTrace, DeviceTrace]]) -> list[str]:
    return [value for value, (_, each) in zip(values, rows, strict=True) for _ in each.at_ns]


def _joined(parts: Sequence[np.ndarray], kind: type) -> np.ndarray:
    return np.concatenate([np.empty(0, kind), *parts]).astype(kind)


def _texts(
    trace: DeviceTrace, texts: Sequence[tuple[int, str]], default: str | None
) -> list[str | None]:
    by_moment: dict[int, str] = dict(texts)
    return [by_moment.get(int(at_ns), default) for at_ns in trace.at_ns]
