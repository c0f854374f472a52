"""Step-time tables, shipped and a user's own: one .npz file per system and framework.

A file holds the parts of its tables (float32 seconds), each stored once, and a JSON index of which parts
make which table. `serving.twin.tables.build` makes them.
"""

import io
import json
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, field, fields
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from serving.install.environments import home
from serving.twin.errors import DoesNotFit, NoTable
from serving.twin.tables.steptime import Curve, Memory, StepTable, Surface, TableKey

FORMAT = 1
UNREADABLE = (
    *(ValueError, LookupError, TypeError, OSError, EOFError),
    *(zlib.error, zipfile.BadZipFile),
)
PARTS = ("shared", "rows", "alone", "context", "decode")
AXES: Mapping[str, tuple[str, ...]] = {
    "shared": ("tokens",),
    "rows": ("requests",),
    "alone": ("requests",),
    "context": ("chunk", "attended"),
    "decode": ("batch", "past"),
}
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class TableEntry:
    """Which parts make a table: `parts` are positions in the file's arrays, in the order of PARTS."""

    key: TableKey
    parts: tuple[int, ...]
    memory: Memory
    double_counted_s: float
    note: str = ""


@dataclass(frozen=True, slots=True)
class MissingTable:
    """A key without a table, and why: one line. `fits`: whether its weights fit the GPUs."""

    key: TableKey
    reason: str
    fits: bool = True


@dataclass(frozen=True)
class TableFile:
    """All tables of one system and framework."""

    system: str
    framework: str
    version: str
    axes: Mapping[str, Sequence[float]]
    arrays: Mapping[str, Floats]
    entries: tuple[TableEntry, ...]
    missing: tuple[MissingTable, ...]
    # Tables share parts: so do their Python lists.
    _curves: dict[tuple[str, int], Curve] = field(default_factory=dict, compare=False, repr=False)
    _surfaces: dict[tuple[str, int], Surface] = field(
        default_factory=dict, compare=False, repr=False
    )

    @property
    def name(self) -> str:
        """The file's name."""
        return f"{self.system}-{self.framework}.npz"

    def table(self, entry: TableEntry) -> StepTable:
        """The table of an entry of this file."""
        where = dict(zip(PARTS, entry.parts, strict=True))
        return StepTable(
            key=entry.key,
            version=f"{self.version}; {entry.note}" if entry.note else self.version,
            memory=entry.memory,
            shared=self._curve("shared", where["shared"]),
            rows=self._curve("rows", where["rows"]),
            alone=self._curve("alone", where["alone"]),
            context=self._surface("context", where["context"]),
            decode=self._surface("decode", where["decode"]),
            double_counted_s=entry.double_counted_s,
        )

    def _curve(self, part: str, i: int) -> Curve:
        if (part, i) not in self._curves:
            (axis,) = AXES[part]
            self._curves[part, i] = Curve(self.axes[axis], self.arrays[part][i].tolist())
        return self._curves[part, i]

    def _surface(self, part: str, i: int) -> Surface:
        if (part, i) not in self._surfaces:
            first, second = (self.axes[axis] for axis in AXES[part])
            self._surfaces[part, i] = Surface(first, second, self.arrays[part][i].tolist())
        return self._surfaces[part, i]


def encode(tables: TableFile) -> bytes:
    """The file's bytes; equal tables give equal bytes."""
    notes = sorted({entry.note for entry in tables.entries})
    reasons = sorted({missing.reason for missing in tables.missing})
    index = {
        "format": FORMAT,
        "system": tables.system,
        "framework": tables.framework,
        "version": tables.version,
        "axes": {name: list(axis) for name, axis in tables.axes.items()},
        "notes": notes,
        "reasons": reasons,
        "tables": [
            [*_short(e.key), *e.parts, *astuple(e.memory), e.double_counted_s, notes.index(e.note)]
            for e in tables.entries
        ],
        "absent": [[*_short(m.key), m.fits, reasons.index(m.reason)] for m in tables.missing],
    }
    text = json.dumps(index, separators=(",", ":")).encode()
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {part: tables.arrays[part] for part in PARTS}
    np.savez_compressed(buffer, index=np.frombuffer(text, dtype=np.uint8), **arrays)
    return buffer.getvalue()


def decode(content: bytes) -> TableFile:
    """The tables of a file. Raises one of UNREADABLE if it is not such a file."""
    with np.load(io.BytesIO(content), allow_pickle=False) as loaded:
        index = json.loads(loaded["index"].tobytes())
        arrays = {part: loaded[part] for part in PARTS}
    if index["format"] != FORMAT:
        raise ValueError(f"format {index['format']}, not {FORMAT}")
    where = (index["system"], index["framework"])
    keys, numbers = len(fields(TableKey)) - 2, len(fields(Memory))
    entries, missing = list[TableEntry](), list[MissingTable]()
    for row in index["tables"]:
        key, rest = TableKey(*where, *row[:keys]), row[keys:]
        parts, memory = tuple(rest[: len(PARTS)]), Memory(*rest[len(PARTS) :][:numbers])
        entries.append(TableEntry(key, parts, memory, rest[-2], index["notes"][rest[-1]]))
    for row in index["absent"]:
        key, (fits, reason) = TableKey(*where, *row[:keys]), row[keys:]
        missing.append(MissingTable(key, index["reasons"][reason], fits))
    return TableFile(
        *where, index["version"], index["axes"], arrays, tuple(entries), tuple(missing)
    )


def _short(key: TableKey) -> tuple[Any, ...]:
    return astuple(key)[2:]


class Library:
    """Finds tables by key. A table's parts become Python lists only when it is asked for."""

    def __init__(self, files: Iterable[TableFile]) -> None:
        """Later files override earlier ones, table by table."""
        self._entries: dict[TableKey, tuple[TableFile, TableEntry]] = {}
        self._known_missing: dict[TableKey, MissingTable] = {}
        self._versions: dict[tuple[str, str], str] = {}
        for file in files:
            self._versions[file.system, file.framework] = file.version
            self._known_missing.update((each.key, each) for each in file.missing)
            self._entries.update((entry.key, (file, entry)) for entry in file.entries)

    @classmethod
    @cache
    def shipped(cls) -> "Library":
        """The tables of this package."""
        return cls(_read(resources.files("serving.twin.tables").joinpath("data")))

    @classmethod
    def installed(cls) -> "Library":
        """The shipped tables, and those that `wattfront twin build` made on this machine."""
        folder = home() / "twin"
        return cls._with(folder, folder.stat().st_mtime_ns) if folder.is_dir() else cls.shipped()

    @classmethod
    @cache
    def _with(cls, folder: Path, _changed_ns: int) -> "Library":
        return cls.with_folder(folder)

    @classmethod
    def with_folder(cls, folder: Path) -> "Library":
        """The shipped tables, overridden by those in a folder. Raises NoTable for a broken file."""
        shipped = _read(resources.files("serving.twin.tables").joinpath("data"))
        return cls([*shipped, *_read(folder)])

    def keys(self) -> list[TableKey]:
        """The keys of all tables, sorted."""
        return sorted(self._entries)

    def find(
        self, system: str | None = None, framework: str | None = None, model: str | None = None
    ) -> list[TableKey]:
        """The keys of tables that match; None matches any."""
        return [
            key
            for key in self.keys()
            if system in (None, key.system)
            and framework in (None, key.framework)
            and model in (None, key.model)
        ]

    def version(self, system: str, framework: str) -> str:
        """The source of a framework's tables on a system. Raises NoTable."""
        try:
            return self._versions[system, framework]
        except KeyError:
            raise NoTable(f"no step-time tables of {framework} on {system}") from None

    def table(self, key: TableKey) -> StepTable:
        """The table of a key. Raises NoTable, DoesNotFit."""
        file, entry = self._found(key)
        return file.table(entry)

    def memory(self, key: TableKey) -> Memory:
        """The memory figures of a table, without making it. Raises NoTable, DoesNotFit."""
        return self._found(key)[1].memory

    def _found(self, key: TableKey) -> tuple[TableFile, TableEntry]:
        if key not in self._entries:
            raise self._missing(key)
        return self._entries[key]

    def _missing(self, key: TableKey) -> NoTable:
        known = self._known_missing.get(key)
        if known and not known.fits:
            return DoesNotFit(f"{key}: {known.reason}")
        reason = known.reason if known else "not among the tables"
        near = sorted(self._entries, key=lambda other: (_distance(key, other), other))[:3]
        nearest = "; ".join(_difference(key, other) for other in near) or "none"
        return NoTable(f"no step-time table of {key} ({reason}); nearest: {nearest}")


def _distance(key: TableKey, other: TableKey) -> int:
    """How different two keys are; the model weighs most, the parallel layout least."""
    weights = {"model": 100, "system": 20, "framework": 15, "weights": 6, "kv": 3}
    apart = sum(w for name, w in weights.items() if getattr(key, name) != getattr(other, name))
    sizes = ((key.tensor, other.tensor), (key.data, other.data), (key.expert, other.expert))
    return apart + sum(abs(a.bit_length() - b.bit_length()) for a, b in sizes)


def _difference(key: TableKey, other: TableKey) -> str:
    named = ((part.name, getattr(other, part.name)) for part in fields(TableKey))
    return " ".join(f"{name}={value}" for name, value in named if getattr(key, name) != value)


def _read(folder: Path | Traversable) -> list[TableFile]:
    found = sorted((p for p in folder.iterdir() if p.name.endswith(".npz")), key=lambda p: p.name)
    return [_decoded(path) for path in found]


def _decoded(path: Traversable) -> TableFile:
    try:
        return decode(path.read_bytes())
    except UNREADABLE as error:
        raise NoTable(f"{path.name} is not a file of step-time tables: {error}") from error
