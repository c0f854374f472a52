"""Raw responses kept until they are parsed: in memory up to a limit, above it in a temporary file."""

import os
import tempfile
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

MEMORY_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Packed:
    """A stored response. `raw` is empty where its bytes are in the file, at offset `at`."""

    stamps_ns: "array[int]"
    lengths: "array[int]"  # of each read, in bytes
    raw: bytes
    at: int
    size: int


class ResponseBuffer:
    """Memory first, then an unnamed file, which ends with the process."""

    def __init__(self, memory_bytes: int = MEMORY_BYTES) -> None:
        self._memory_left = memory_bytes
        self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 (closed by __exit__)
        self._file_end = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def pack(self, stamps_ns: "array[int]", reads: Sequence[bytes]) -> Packed:
        """Stores the reads of a response and the time of each."""
        raw = b"".join(reads)
        lengths, size = array("I", map(len, reads)), len(raw)
        if size > self._memory_left and self._written(raw):
            self._file_end += size
            return Packed(stamps_ns, lengths, b"", self._file_end - size, size)
        self._memory_left -= size
        return Packed(stamps_ns, lengths, raw, 0, size)

    def _written(self, raw: bytes) -> bool:
        """False if the disk is full: the bytes then stay in memory, and no response is lost."""
        try:
            return os.pwrite(self._file.fileno(), raw, self._file_end) == len(raw)
        except OSError:
            return False

    def raw(self, packed: Packed) -> bytes:
        """All bytes of a stored response."""
        if packed.raw or not packed.size:
            return packed.raw
        return os.pread(self._file.fileno(), packed.size, packed.at)
