"""What became of a request, and what its response contained."""

from dataclasses import dataclass
from enum import IntEnum


class Outcome(IntEnum):
    """How a request ended. The numbers are those in Parquet files."""

    COMPLETED = 0
    UNREACHABLE = 1  # no connection
    REFUSED = 2  # HTTP status other than 200
    CUT = 3  # the connection was lost before the response was complete
    TIMED_OUT = 4
    MALFORMED = 5  # not a valid streaming response
    STREAM_ERROR = 6  # an error in a response of status 200, before or in its stream
    ABANDONED = 7  # cancelled by the load generator at the end of the level: not a failure
    ABORTED = 8  # the engine gave up: finish_reason abort, error, content_filter …


@dataclass(frozen=True, slots=True)
class Response:
    """What a response contained. Token counts are those of `usage`; None where it was missing.

    `doubts`: what makes its figures doubtful. `oddities`: what is unusual, and was read nevertheless.
    """

    outcome: Outcome
    status: int = 0
    stamps_ns: tuple[int, ...] = ()  # arrival of each event with output
    tokens: tuple[int, ...] = ()  # of each of those events
    exact: bool = False  # whether `tokens` is known, not spread evenly over the events
    input_tokens: int | None = None
    output_tokens: int | None = None
    error: str = ""
    cached_tokens: int | None = None  # of the prompt, found in the server's prefix cache
    doubts: tuple[str, ...] = ()
    oddities: tuple[str, ...] = ()
