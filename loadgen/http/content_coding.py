"""Responses that a server or a proxy compressed although no client asked for it."""

import zlib
from collections.abc import Sequence
from itertools import accumulate
from typing import Literal

from loadgen.http.protocol import Head, Payload

Coding = Literal["gzip", "deflate"]
_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS  # the header says which
_BYTES_MAX = 1 << 28  # of one response: no stream of text is longer


def coding_of(head: Head) -> Coding | None:
    """How the body is compressed; None if it is not, or in a way that is not known here."""
    match head.headers.get("content-encoding", "").strip().lower():
        case "gzip" | "x-gzip":
            return "gzip"
        case "deflate":
            return "deflate"
        case _:
            return None


def inflated(
    coding: Coding, stamps_ns: Sequence[int], lengths: Sequence[int], payload: Payload
) -> tuple[list[int], list[int], Payload]:
    """Stamps, lengths and payload as if each read had brought its text uncompressed.

    A body that can't be decompressed ends there, and is not whole.
    """
    inflater = _Inflater(coding, b"".join(payload.pieces[:2])[:2])
    ends, found, read = list(accumulate(lengths)), [b""] * len(lengths), 0
    whole = payload.whole
    try:
        for piece, start in zip(payload.pieces, payload.starts, strict=True):
            at, stop = start, start + len(piece)
            while at < stop:
                while ends[read] <= at:
                    read += 1
                until = min(stop, ends[read])
                found[read] += inflater.feed(piece[at - start : until - start])
                at = until
    except zlib.error:
        whole = False
    whole = whole and inflater.complete
    body = b"".join(found)
    return list(stamps_ns), list(map(len, found)), Payload([body], [0], whole)


class _Inflater:
    """gzip in one or several members, zlib, or deflate without a header: `first` are the first two bytes."""

    def __init__(self, coding: Coding, first: bytes) -> None:
        plain = coding == "deflate" and (int.from_bytes(first, "big") % 31 or first[:1] != b"x")
        self._bits = -zlib.MAX_WBITS if plain else _GZIP_OR_ZLIB
        self._now = zlib.decompressobj(self._bits)
        self._size = 0

    @property
    def complete(self) -> bool:
        return self._now.eof

    def feed(self, data: bytes) -> bytes:
        parts = []
        while data:
            if self._now.eof:
                self._now = zlib.decompressobj(self._bits)
            parts.append(self._now.decompress(data))
            data = self._now.unused_data
        made = b"".join(parts)
        self._size += len(made)
        if self._size > _BYTES_MAX:
            raise zlib.error("too long")
        return made
