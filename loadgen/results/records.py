"""What happened, one row a request, in columns; and its Parquet form."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from io import BytesIO
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from loadgen.http.response_parser import Outcome, Reply

_INTS = {
    "level": np.int32,
    "slot": np.int32,
    "due_ns": np.int64,
    "sent_ns": np.int64,
    "first_ns": np.int64,
    "last_ns": np.int64,
    "end_ns": np.int64,
    "input_tokens": np.int32,
    "output_tokens": np.int32,
    "events": np.int32,
    "outcome": np.int8,
    "status": np.int16,
    "exact_tokens": np.int8,
}
_FLAT = {"event_ns": np.int64, "event_tokens": np.int32}  # of the events of all requests in turn


@dataclass(frozen=True, slots=True)
class Row:
    """One request, as the runner hands it in."""

    level: int
    slot: int
    due_ns: int
    sent_ns: int
    end_ns: int
    reply: Reply


@dataclass(frozen=True, slots=True, eq=False)
class Records:
    """Times are on the monotonic clock; 0 where nothing happened. Tokens are -1 where not told.

    `first_ns` and `last_ns` are those of the events that carried output, `end_ns` that of the last
    byte or of the failure. `exact_tokens` is 1 where `event_tokens` is known, 0 where the tokens of a
    reply were spread over its events. `error` indexes `errors`, where 0 is no error. The stamps of row i are
    `event_ns[event_offsets[i]:event_offsets[i + 1]]`, the tokens of those events in `event_tokens`.
    """

    level: NDArray[np.int32]
    slot: NDArray[np.int32]
    due_ns: NDArray[np.int64]
    sent_ns: NDArray[np.int64]
    first_ns: NDArray[np.int64]
    last_ns: NDArray[np.int64]
    end_ns: NDArray[np.int64]
    input_tokens: NDArray[np.int32]
    output_tokens: NDArray[np.int32]
    events: NDArray[np.int32]
    outcome: NDArray[np.int8]
    status: NDArray[np.int16]
    exact_tokens: NDArray[np.int8]
    error: NDArray[np.int32]
    errors: tuple[str, ...]
    event_ns: NDArray[np.int64]
    event_tokens: NDArray[np.int32]
    event_offsets: NDArray[np.int64]

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Self:
        codes: dict[str, int] = {"": 0}
        table = [
            (
                row.level,
                row.slot,
                row.due_ns,
                row.sent_ns,
                row.reply.stamps_ns[0] if row.reply.stamps_ns else 0,
                row.reply.stamps_ns[-1] if row.reply.stamps_ns else 0,
                row.end_ns,
                -1 if row.reply.input_tokens is None else row.reply.input_tokens,
                -1 if row.reply.output_tokens is None else row.reply.output_tokens,
                len(row.reply.stamps_ns),
                int(row.reply.outcome),
                row.reply.status,
                row.reply.exact,
                codes.setdefault(row.reply.error, len(codes)),
            )
            for row in rows
        ]
        grid = np.array(table, dtype=np.int64).reshape(len(rows), len(_INTS) + 1)
        stamps = [np.array(row.reply.stamps_ns, dtype=np.int64) for row in rows]
        tokens = [np.array(row.reply.tokens, dtype=np.int32) for row in rows]
        return cls(
            **{name: grid[:, i].astype(kind) for i, (name, kind) in enumerate(_INTS.items())},
            error=grid[:, -1].astype(np.int32),
            errors=tuple(codes),
            event_ns=np.concatenate([np.zeros(0, np.int64), *stamps]),
            event_tokens=np.concatenate([np.zeros(0, np.int32), *tokens]),
            event_offsets=offsets_of(grid[:, list(_INTS).index("events")]),
        )

    def __len__(self) -> int:
        return len(self.due_ns)

    @property
    def completed(self) -> NDArray[np.bool_]:
        return np.equal(self.outcome, Outcome.COMPLETED)

    @property
    def failed(self) -> NDArray[np.bool_]:
        return ~np.isin(self.outcome, (Outcome.COMPLETED, Outcome.ABANDONED))

    def of_level(self, index: int) -> "Records":
        rows = np.flatnonzero(self.level == index)
        events = np.repeat(self.level == index, self.events)
        columns = {name: getattr(self, name)[rows] for name in (*_INTS, "error")}
        flat = {name: getattr(self, name)[events] for name in _FLAT}
        offsets = offsets_of(columns["events"])
        return Records(**columns, **flat, errors=self.errors, event_offsets=offsets)

    def shifted(self, by_ns: int) -> "Records":
        """The same on another clock; what never happened stays 0."""
        times = ("due_ns", "sent_ns", "first_ns", "last_ns", "end_ns", "event_ns")
        moved: dict[str, Any] = {name: getattr(self, name) for name in times}
        for name, column in moved.items():
            moved[name] = np.where(column == 0, 0, column + by_ns)
        return replace(self, **moved)

    def error_text(self, row: int) -> str:
        return self.errors[int(self.error[row])]


def offsets_of(counts: NDArray[np.int64] | NDArray[np.int32]) -> NDArray[np.int64]:
    """Where the events of each row begin, and where those of the last one end."""
    return np.concatenate((np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)))


def concat(parts: Sequence[Records]) -> Records:
    """One table of several; texts that several have are kept once."""
    codes: dict[str, int] = {"": 0}
    error = [
        np.array([codes.setdefault(text, len(codes)) for text in part.errors], np.int32)[part.error]
        for part in parts
    ]
    empty = Records.of([])
    columns = {
        name: np.concatenate([getattr(empty, name), *(getattr(part, name) for part in parts)])
        for name in (*_INTS, *_FLAT)
    }
    return Records(
        **columns,
        error=np.concatenate([empty.error, *error]),
        errors=tuple(codes),
        event_offsets=offsets_of(columns["events"]),
    )


def to_parquet_bytes(records: Records, metadata: Mapping[str, str] | None = None) -> bytes:
    """`metadata` goes into the file's key-value pairs: the clock anchor, the windows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {name: pa.array(getattr(records, name)) for name in _INTS}
    columns["error"] = pa.DictionaryArray.from_arrays(
        pa.array(records.error), pa.array(records.errors, pa.string())
    )
    offsets = pa.array(records.event_offsets)
    for name in _FLAT:
        columns[name] = pa.LargeListArray.from_arrays(offsets, pa.array(getattr(records, name)))
    table = pa.table(columns).replace_schema_metadata(dict(metadata or {}))
    out = BytesIO()
    pq.write_table(table, out, compression="zstd", use_dictionary=["error"])
    return out.getvalue()


def metadata_of(data: bytes) -> dict[str, str]:
    """The key-value pairs that were written with the table. Raises ValueError if it is none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        pairs = pq.read_schema(pa.BufferReader(data)).metadata or {}
    except pa.ArrowInvalid:
        raise ValueError("not a Parquet file") from None
    return {key.decode(): value.decode() for key, value in pairs.items()}


def from_parquet(data: bytes) -> Records:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(pa.BufferReader(data))
    columns = {name: table[name].to_numpy().astype(kind) for name, kind in _INTS.items()}
    texts = table["error"].cast(pa.string()).to_pylist()
    codes: dict[str, int] = {"": 0}
    error = np.array([codes.setdefault(text, len(codes)) for text in texts], np.int32)
    flat = {
        name: table[name].combine_chunks().flatten().to_numpy().astype(kind)
        for name, kind in _FLAT.items()
    }
    return Records(
        **columns,
        error=error,
        errors=tuple(codes),
        **flat,
        event_offsets=offsets_of(columns["events"]),
    )


def same(left: Records, right: Records) -> bool:
    """Equal row by row, whatever the order of their error texts."""
    plain = [field.name for field in fields(Records) if field.name not in ("error", "errors")]
    return all(np.array_equal(getattr(left, n), getattr(right, n)) for n in plain) and [
        left.error_text(i) for i in range(len(left))
    ] == [right.error_text(i) for i in range(len(right))]
