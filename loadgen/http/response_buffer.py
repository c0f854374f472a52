"""Replies that wait to be read: packed as they come in, and above some memory moved to a file."""

import os
import tempfile
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

MEMORY_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Packed:
    """`raw` is empty where the bytes lie in the file, `at` there."""

    stamps_ns: "array[int]"
    lengths: "array[int]"  # of each read, in bytes
    raw: bytes
    at: int
    size: int


class Hoard:
    """A file without a name, which goes with its process."""

    def __init__(self, memory_bytes: int = MEMORY_BYTES) -> None:
        self._left = memory_bytes
        self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 (closed by __exit__)
        self._end = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def pack(self, stamps_ns: "array[int]", reads: Sequence[bytes]) -> Packed:
        raw = b"".join(reads)
        lengths, size = array("I", map(len, reads)), len(raw)
        if size > self._left and self._written(raw):
            self._end += size
            return Packed(stamps_ns, lengths, b"", self._end - size, size)
        self._left -= size
        return Packed(stamps_ns, lengths, raw, 0, size)

    def _written(self, raw: bytes) -> bool:
        """A full disk is no reason to lose a measurement: what does not fit stays in memory."""
        try:
            return os.pwrite(self._file.fileno(), raw, self._end) == len(raw)
        except OSError:
            return False

    def raw(self, packed: Packed) -> bytes:
        if packed.raw or not packed.size:
            return packed.raw
        return os.pread(self._file.fileno(), packed.size, packed.at)
