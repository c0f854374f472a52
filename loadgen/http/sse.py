"""Parses server-sent events (HTML standard, 9.2.6)."""

import re
from collections.abc import Iterator
from itertools import accumulate

_BOM = b"\xef\xbb\xbf"
_LINE_END = re.compile(rb"\r\n?|\n")
_DATA, _EMPTY_LINE = b"data: ", b"\n\n"
_BETWEEN = _EMPTY_LINE + _DATA


def plain_events(body: bytes) -> tuple[list[bytes], list[int]] | None:
    """Data and end positions of all events; None unless the body is regular.

    Much faster than `sse_events`, for the form that engines write: each event is one line `data: …`
    and an empty line, both ended by LF.
    """
    if not body.startswith(_DATA) or not body.endswith(_EMPTY_LINE) or b"\r" in body:
        return None
    datas = body[len(_DATA) : -len(_EMPTY_LINE)].split(_BETWEEN)
    if body.count(b"\n") != len(datas) * len(_EMPTY_LINE):
        return None
    before, between = len(_DATA), len(_BETWEEN)
    ends = enumerate(accumulate(map(len, datas)))
    return datas, [before + between * index + end for index, end in ends]


def sse_events(body: bytes) -> Iterator[tuple[bytes, bytes, int]]:
    """(event name, data, position of the last byte of its last data line) of each complete event.

    Lines end with LF, CRLF or CR; comments and unknown fields are skipped; data lines are joined.
    """
    name, data, last = b"", None, 0
    for line, end in _lines(body):
        if not line:
            if data is not None:
                yield name, data, last
            name, data = b"", None
        else:
            field, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            if field == b"data":
                data = value if data is None else data + b"\n" + value
                last = end
            elif field == b"event":
                name = value


def _lines(body: bytes) -> Iterator[tuple[bytes, int]]:
    """Each complete line, and the position of the last byte of its end."""
    at = len(_BOM) if body.startswith(_BOM) else 0
    if b"\r" in body:
        for mark in _LINE_END.finditer(body, at):
            yield body[at : mark.start()], mark.end() - 1
            at = mark.end()
        return
    while (end := body.find(b"\n", at)) >= 0:
        yield body[at:end], end
        at = end + 1
