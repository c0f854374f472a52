"""The step-time tables: those that are shipped, and a user's own. One file a system and framework.

A file is an .npz: the parts that tables are made of (float32 seconds), each kept once, and an index
(JSON) that says which parts make which table. `serving.twin.tables.build` writes them.
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

from serving.errors import LaunchError
from serving.install.environments import home
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


class NoTable(LaunchError):
    """There are no step times for this: not measured, or it can't run. One line says which."""


class DoesNotFit(NoTable):
    """The weights alone are larger than the memory of the GPUs: an engine would die of it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Which parts make a table: the position of each in the file's arrays."""

    key: TableKey
    parts: tuple[int, ...]
    memory: Memory
    twice_s: float
    note: str = ""


@dataclass(frozen=True, slots=True)
class Absent:
    """A table that there is not, and why: one line."""

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
    entries: tuple[Entry, ...]
    absent: tuple[Absent, ...]
    # Tables share parts: so do their Python lists.
    _curves: dict[tuple[str, int], Curve] = field(default_factory=dict, compare=False, repr=False)
    _surfaces: dict[tuple[str, int], Surface] = field(
        default_factory=dict, compare=False, repr=False
    )

    @property
    def name(self) -> str:
        return f"{self.system}-{self.framework}.npz"

    def table(self, entry: Entry) -> StepTable:
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
            twice_s=entry.twice_s,
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
    """The file's bytes; the same tables are always the same bytes."""
    notes = sorted({entry.note for entry in tables.entries})
    reasons = sorted({absent.reason for absent in tables.absent})
    index = {
        "format": FORMAT,
        "system": tables.system,
        "framework": tables.framework,
        "version": tables.version,
        "axes": {name: list(axis) for name, axis in tables.axes.items()},
        "notes": notes,
        "reasons": reasons,
        "tables": [
            [*_short(e.key), *e.parts, *astuple(e.memory), e.twice_s, notes.index(e.note)]
            for e in tables.entries
        ],
        "absent": [[*_short(a.key), a.fits, reasons.index(a.reason)] for a in tables.absent],
    }
    text = json.dumps(index, separators=(",", ":")).encode()
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {part: tables.arrays[part] for part in PARTS}
    np.savez_compressed(buffer, index=np.frombuffer(text, dtype=np.uint8), **arrays)
    return buffer.getvalue()


def decode(content: bytes) -> TableFile:
    """Raises ValueError, KeyError, OSError or BadZipFile for what is no such file."""
    with np.load(io.BytesIO(content), allow_pickle=False) as loaded:
        index = json.loads(loaded["index"].tobytes())
        arrays = {part: loaded[part] for part in PARTS}
    if index["format"] != FORMAT:
        raise ValueError(f"format {index['format']}, not {FORMAT}")
    where = (index["system"], index["framework"])
    keys, numbers = len(fields(TableKey)) - 2, len(fields(Memory))
    entries, absent = list[Entry](), list[Absent]()
    for row in index["tables"]:
        key, rest = TableKey(*where, *row[:keys]), row[keys:]
        parts, memory = tuple(rest[: len(PARTS)]), Memory(*rest[len(PARTS) :][:numbers])
        entries.append(Entry(key, parts, memory, rest[-2], index["notes"][rest[-1]]))
    for row in index["absent"]:
        key, (fits, reason) = TableKey(*where, *row[:keys]), row[keys:]
        absent.append(Absent(key, index["reasons"][reason], fits))
    return TableFile(*where, index["version"], index["axes"], arrays, tuple(entries), tuple(absent))


def _short(key: TableKey) -> tuple[Any, ...]:
    return astuple(key)[2:]


class Library:
    """Finds tables by key. Parts become Python lists only for tables that are asked for."""

    def __init__(self, files: Iterable[TableFile]) -> None:
        """Later files win over earlier ones, table by table."""
        self._entries: dict[TableKey, tuple[TableFile, Entry]] = {}
        self._absent: dict[TableKey, Absent] = {}
        self._versions: dict[tuple[str, str], str] = {}
        for file in files:
            self._versions[file.system, file.framework] = file.version
            self._absent.update((absent.key, absent) for absent in file.absent)
            self._entries.update((entry.key, (file, entry)) for entry in file.entries)

    @classmethod
    @cache
    def shipped(cls) -> "Library":
        """The tables in this package."""
        return cls(_read(resources.files("serving.twin.tables").joinpath("data")))

    @classmethod
    def installed(cls) -> "Library":
        """The shipped tables, and what `wattfront twin build` made on this machine."""
        folder = home() / "twin"
        return cls._with(folder, folder.stat().st_mtime_ns) if folder.is_dir() else cls.shipped()

    @classmethod
    @cache
    def _with(cls, folder: Path, _changed_ns: int) -> "Library":
        return cls.with_folder(folder)

    @classmethod
    def with_folder(cls, folder: Path) -> "Library":
        """The shipped tables and a user's own, which win. Raises NoTable for a broken file."""
        shipped = _read(resources.files("serving.twin.tables").joinpath("data"))
        return cls([*shipped, *_read(folder)])

    def keys(self) -> list[TableKey]:
        return sorted(self._entries)

    def find(
        self, system: str | None = None, framework: str | None = None, model: str | None = None
    ) -> list[TableKey]:
        """The keys that there are; None is any."""
        return [
            key
            for key in self.keys()
            if system in (None, key.system)
            and framework in (None, key.framework)
            and model in (None, key.model)
        ]

    def version(self, system: str, framework: str) -> str:
        """Where the tables of a framework on a system come from. Raises NoTable."""
        try:
            return self._versions[system, framework]
        except KeyError:
            raise NoTable(f"no step times of {framework} on {system}") from None

    def table(self, key: TableKey) -> StepTable:
        """Raises NoTable, DoesNotFit."""
        file, entry = self._found(key)
        return file.table(entry)

    def memory(self, key: TableKey) -> Memory:
        """What a table says of memory, without making it. Raises NoTable, DoesNotFit."""
        return self._found(key)[1].memory

    def _found(self, key: TableKey) -> tuple[TableFile, Entry]:
        if key not in self._entries:
            raise self._missing(key)
        return self._entries[key]

    def _missing(self, key: TableKey) -> NoTable:
        known = self._absent.get(key)
        if known and not known.fits:
            return DoesNotFit(f"{key}: {known.reason}")
        reason = known.reason if known else "not among the tables"
        near = sorted(self._entries, key=lambda other: (_distance(key, other), other))[:3]
        nearest = "; ".join(_difference(key, other) for other in near) or "none"
        return NoTable(f"no step times of {key} ({reason}); the nearest: {nearest}")


def _distance(key: TableKey, other: TableKey) -> int:
    """What differs, the model weighing most: another layout is nearer than another model."""
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
        raise NoTable(f"{path.name} is no file of step-time tables: {error}") from error
