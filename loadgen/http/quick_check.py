"""Which responses are parsed as soon as they are complete: those that may have failed in spite of status 200.

A user whose request fails pauses before the next one. All other responses are parsed after the level.
"""

import re
from collections.abc import Sequence

_SHORT_READS, _SHORT_BYTES = 8, 2048
_HEAD_BYTES, _TAIL_BYTES = 1024, 1024
_EVENT_STREAM = b"text/event-stream"
_FINISH = re.compile(rb'"finish_reason": ?(?:"([^"]*)"|\{)')
_USUAL = frozenset({b"stop", b"length", b"tool_calls"})
_ERRORS = (b'"error"', b"event: error", b"event:error")


def may_have_failed(reads: Sequence[bytes]) -> bool:
    """Whether a complete response of status 200 must be parsed to know that it succeeded."""
    if len(reads) <= _SHORT_READS and sum(map(len, reads)) < _SHORT_BYTES:
        return True
    if _EVENT_STREAM not in reads[0][:_HEAD_BYTES].lower():
        return True
    tail = _tail(reads)
    if any(error in tail for error in _ERRORS):
        return True
    finishes = _FINISH.findall(tail)
    return not _USUAL.issuperset(finishes) or not (finishes or b"[DONE]" in tail)


def _tail(reads: Sequence[bytes]) -> bytes:
    parts, size = [], 0
    for read in reversed(reads):
        parts.append(read[-_TAIL_BYTES:])
        size += len(parts[-1])
        if size >= _TAIL_BYTES:
            break
    return b"".join(reversed(parts))
