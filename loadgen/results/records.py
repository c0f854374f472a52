"""The records of all requests, one row each, in columns; and their Parquet form."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from loadgen.http.response import Outcome, Response

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
    "cached_tokens": np.int32,
}
_FLAT = {
    "event_ns": np.int64,
    "event_tokens": np.int32,
}  # one entry an event, of all requests in turn
_TEXTS = {"error": "errors", "doubt": "doubts", "oddity": "oddities"}  # column of codes: its texts
_SINCE = {"cached_tokens": -1, "doubt": "", "oddity": ""}  # in no older file
SEPARATOR = "; "  # between several doubts of one response


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """One request and its parsed response."""

    level: int
    slot: int
    due_ns: int
    sent_ns: int
    end_ns: int
    response: Response


@dataclass(frozen=True, slots=True, eq=False)
class Records:
    """Times are ns on the monotonic clock, 0 where nothing happened. Tokens are -1 where not reported.

    `first_ns`, `last_ns`: arrival of the first and last event with output. `end_ns`: the last byte, or
    the failure. `exact_tokens`: 1 where `event_tokens` is known, 0 where the tokens of a response were
    spread over its events. `error`, `doubt` and `oddity` index `errors`, `doubts` and `oddities`; 0 is none.
    The stamps of row i are `event_ns[event_offsets[i]:event_offsets[i + 1]]`, and `event_tokens` has the
    tokens of those events.
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
    cached_tokens: NDArray[np.int32]
    error: NDArray[np.int32]
    errors: tuple[str, ...]
    doubt: NDArray[np.int32]
    doubts: tuple[str, ...]
    oddity: NDArray[np.int32]
    oddities: tuple[str, ...]
    event_ns: NDArray[np.int64]
    event_tokens: NDArray[np.int32]
    event_offsets: NDArray[np.int64]

    @classmethod
    def of(cls, rows: Sequence[RequestRecord]) -> Self:
        """The columns of these requests."""
        errors, doubts, oddities = ({"": 0}, {"": 0}, {"": 0})
        table = [
            (
                row.level,
                row.slot,
                row.due_ns,
                row.sent_ns,
                row.response.stamps_ns[0] if row.response.stamps_ns else 0,
                row.response.stamps_ns[-1] if row.response.stamps_ns else 0,
                row.end_ns,
                -1 if row.response.input_tokens is None else row.response.input_tokens,
                -1 if row.response.output_tokens is None else row.response.output_tokens,
                len(row.response.stamps_ns),
                int(row.response.outcome),
                row.response.status,
                row.response.exact,
                -1 if row.response.cached_tokens is None else row.response.cached_tokens,
                _code(errors, row.response.error),
                _code(doubts, SEPARATOR.join(row.response.doubts)),
                _code(oddities, SEPARATOR.join(row.response.oddities)),
            )
            for row in rows
        ]
        grid = np.array(table, dtype=np.int64).reshape(len(rows), len(_INTS) + len(_TEXTS))
        codes: dict[str, Any] = {
            name: grid[:, len(_INTS) + i].astype(np.int32) for i, name in enumerate(_TEXTS)
        }
        stamps = [np.array(row.response.stamps_ns, dtype=np.int64) for row in rows]
        tokens = [np.array(row.response.tokens, dtype=np.int32) for row in rows]
        return cls(
            **{name: grid[:, i].astype(kind) for i, (name, kind) in enumerate(_INTS.items())},
            **codes,
            errors=tuple(errors),
            doubts=tuple(doubts),
            oddities=tuple(oddities),
            event_ns=np.concatenate([np.zeros(0, np.int64), *stamps]),
            event_tokens=np.concatenate([np.zeros(0, np.int32), *tokens]),
            event_offsets=offsets_of(grid[:, list(_INTS).index("events")]),
        )

    def __len__(self) -> int:
        return len(self.due_ns)

    @property
    def completed(self) -> NDArray[np.bool_]:
        """Requests with a complete response."""
        return np.equal(self.outcome, Outcome.COMPLETED)

    @property
    def failed(self) -> NDArray[np.bool_]:
        """Requests that failed; abandoned ones did not."""
        return ~np.isin(self.outcome, (Outcome.COMPLETED, Outcome.ABANDONED))

    def of_level(self, index: int) -> "Records":
        """The rows of one level."""
        rows = np.flatnonzero(self.level == index)
        events = np.repeat(self.level == index, self.events)
        columns = {name: getattr(self, name)[rows] for name in (*_INTS, *_TEXTS)}
        flat = {name: getattr(self, name)[events] for name in _FLAT}
        return replace(self, **columns, **flat, event_offsets=offsets_of(columns["events"]))

    def shifted(self, by_ns: int) -> "Records":
        """All times shifted by an offset between two clocks; 0 stays 0."""
        times = ("due_ns", "sent_ns", "first_ns", "last_ns", "end_ns", "event_ns")
        moved: dict[str, Any] = {name: getattr(self, name) for name in times}
        for name, column in moved.items():
            moved[name] = np.where(column == 0, 0, column + by_ns)
        return replace(self, **moved)

    def error_text(self, row: int) -> str:
        """The error of a row; empty if it has none."""
        return self.errors[int(self.error[row])]


def _code(codes: dict[str, int], text: str) -> int:
    return codes.setdefault(text, len(codes))


def offsets_of(counts: NDArray[np.int64] | NDArray[np.int32]) -> NDArray[np.int64]:
    """Offsets of the events of each row, and the end of the last one."""
    return np.concatenate((np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)))


def concat(parts: Sequence[Records]) -> Records:
    """All rows of several tables in one."""
    empty = Records.of([])
    columns: dict[str, Any] = {
        name: np.concatenate([getattr(empty, name), *(getattr(part, name) for part in parts)])
        for name in (*_INTS, *_FLAT)
    }
    return Records(**columns, **_texts(parts), event_offsets=offsets_of(columns["events"]))


def _texts(parts: Sequence[Records]) -> dict[str, Any]:
    """The columns of codes of several tables, and the texts of all."""
    made: dict[str, Any] = {}
    for name, plural in _TEXTS.items():
        codes: dict[str, int] = {"": 0}
        columns = [
            np.array([_code(codes, text) for text in getattr(part, plural)], np.int32)[
                getattr(part, name)
            ]
            for part in parts
        ]
        made[name] = np.concatenate([np.zeros(0, np.int32), *columns])
        made[plural] = tuple(codes)
    return made


def to_parquet_bytes(records: Records, metadata: Mapping[str, str] | None = None) -> bytes:
    """A Parquet file; `metadata` goes into its key-value pairs."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {name: pa.array(getattr(records, name)) for name in _INTS}
    for name, plural in _TEXTS.items():
        columns[name] = pa.DictionaryArray.from_arrays(
            pa.array(getattr(records, name)), pa.array(getattr(records, plural), pa.string())
        )
    offsets = pa.array(records.event_offsets)
    for name in _FLAT:
        columns[name] = pa.LargeListArray.from_arrays(offsets, pa.array(getattr(records, name)))
    table = pa.table(columns).replace_schema_metadata(dict(metadata or {}))
    out = BytesIO()
    pq.write_table(table, out, compression="zstd", use_dictionary=list(_TEXTS))
    return out.getvalue()


def metadata_of(data: bytes) -> dict[str, str]:
    """The key-value pairs of a Parquet file. Raises ValueError if `data` is none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        pairs = pq.read_schema(pa.BufferReader(data)).metadata or {}
    except pa.ArrowInvalid:
        raise ValueError("not a Parquet file") from None
    return {key.decode(): value.decode() for key, value in pairs.items()}


def from_parquet(data: bytes) -> Records:
    """Reads what `to_parquet_bytes` wrote."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(pa.BufferReader(data))
    for name, value in _SINCE.items():
        if name not in table.column_names:
            table = table.append_column(name, pa.array([value] * len(table)))
    columns: dict[str, Any] = {
        name: table[name].to_numpy().astype(kind) for name, kind in _INTS.items()
    }
    for name, plural in _TEXTS.items():
        codes: dict[str, int] = {"": 0}
        texts = table[name].cast(pa.string()).to_pylist()
        columns[name] = np.array([_code(codes, text) for text in texts], np.int32)
        columns[plural] = tuple(codes)
    flat = {
        name: table[name].combine_chunks().flatten().to_numpy().astype(kind)
        for name, kind in _FLAT.items()
    }
    return Records(**columns, **flat, event_offsets=offsets_of(columns["events"]))
