"""A stream split into the reads that a socket may return."""

import itertools
from collections.abc import Sequence

from loadgen.http.response import Response
from loadgen.http.response_parser import parse_response


def split(raw: bytes, places: Sequence[int]) -> list[bytes]:
    """Cut at these places, each taken modulo the length; no read is empty."""
    at = [0, *sorted({place % len(raw) for place in places} - {0}), len(raw)] if raw else [0]
    return [raw[a:b] for a, b in itertools.pairwise(at)]


def single(raw: bytes) -> list[bytes]:
    """One read a byte."""
    return [raw[at : at + 1] for at in range(len(raw))]


def parse_reads(stamps_ns: Sequence[int], reads: Sequence[bytes]) -> Response:
    """`stamps_ns[i]` is when `reads[i]` arrived."""
    return parse_response(stamps_ns, list(map(len, reads)), b"".join(reads))
