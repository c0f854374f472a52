"""From the events of one response to tokens: what came when, and whether `usage` can be true."""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Protocol

from loadgen.http.events import (
    CALL_FIELDS,
    FINISHED,
    GAVE_UP,
    LABELS,
    OUTPUT_FIELDS,
    REASONING_FIELDS,
    Choice,
    Event,
    Usage,
    carries_output,
    finish_name,
    has_field,
    is_text,
    texts_of,
)
from loadgen.http.response import Outcome, Response

TOO_FEW = "usage reports fewer tokens than there were events with text: events were counted instead"
TOO_MANY = "usage reports more tokens than were asked for or than fit the text: events were counted instead"
HIDDEN = "usage counts reasoning tokens that were never streamed: they are left out of all metrics"
RUNNING = "the token counts in the events contradict their text: tokens were spread over the events"
UNKNOWN_FIELD = "text under a field that is not known ({}): it was not timed"
UNKNOWN_FINISH = "the finish_reason {!r} is not known"
NO_FINISH = "the stream ended without a finish_reason and without [DONE]"

# Fields with text that is no output.
_SILENT_DELTA = LABELS | {
    "annotations", "citations", "finish_reason", "logprobs", "name", "object", "provider",
    "provider_specific_fields", "stop_reason", "token_ids", "tool_call_id",
}  # fmt: skip
_SILENT_CHOICE = LABELS | {
    "content_filter_offsets", "content_filter_results", "finish_details", "finish_reason", "hidden_states",
    "logprobs", "matched_stop", "meta_info", "native_finish_reason", "object", "prompt_logprobs",
    "prompt_token_ids", "seed", "stop_reason", "stop_sequence", "token_ids", "warning",
}  # fmt: skip
_OUTSIDE_CHOICES = (
    "content",
    "delta",
    "generated_text",
    "message",
    "output",
    "response",
    "text",
    "token",
)

_SLACK = 16  # one event in so many may be half of a token
_SPECIAL_TOKENS = 8  # of a response, without text: ends of reasoning, of calls
_NAMES_MAX = 3  # unknown names that are reported of one response
_NAME_MAX = 40  # characters


class ArrivalTimes(Protocol):
    """Maps positions in the payload to arrival times."""

    def at(self, positions: Sequence[int]) -> list[int]:
        """The arrival times of bytes at rising positions."""


class StreamReader:
    """Collects the events of one response. `asked`: the tokens that it was limited to; None: no limit known."""

    def __init__(self, times: ArrivalTimes, asked: int | None) -> None:
        self._times = times
        self._asked = asked
        self._events: list[Event] = []
        self._positions: list[int] = []  # in the payload, of the events with output
        self._so_far: list[int] = []  # running token count of each; -1 where not reported
        self._silent: list[int] = []  # positions of later events without text
        self._finish = -1  # position of the latest event with a finish reason
        self._reasons: dict[str, None] = {}
        self._unknown: dict[str, None] = {}
        self._usage = Usage()
        self._cached: int | None = None
        self.done = False
        self.oddities: dict[str, None] = {}

    def add(self, event: Event, position: int, data: bytes) -> bool:
        """The next event; False: it reports an error. `position`: of the last byte of its data."""
        choices: Sequence[Choice] = event.choices or ()
        if event.usage is None and event.error is None and len(choices) == 1:
            choice = choices[0]
            text = choice.text if choice.delta is None else choice.delta.content
            if text and text.__class__ is str and not (choice.finish_reason or choice.error):
                self._positions.append(position)  # nearly all events
                self._so_far.append(-1)
                self._events.append(event)
                return True
        if event.is_error:
            return False
        self._events.append(event)
        self._add_rare(event, choices, position, data)
        return True

    def _add_rare(
        self, event: Event, choices: Sequence[Choice], position: int, data: bytes
    ) -> None:
        count = self._count(event)
        reasons = [choice.finish_reason for choice in choices if choice.finish_reason]
        if any(map(carries_output, choices)):
            self._positions.append(position)
            self._so_far.append(-1 if count is None else count)
        elif choices or event.usage is None:
            self._unknown |= dict.fromkeys(_unknown_fields(data))
            if choices and (self._positions or reasons):
                self._silent.append(position)
        if reasons:
            self.done = True
            self._finish = position
            self._reasons |= dict.fromkeys(reasons)

    def _count(self, event: Event) -> int | None:
        """The output tokens that it reports, kept with all of its usage."""
        if event.timings is not None and event.timings.cache_n is not None:
            self._cached = event.timings.cache_n
        usage = event.usage
        if usage is None:
            return None
        details = usage.prompt_tokens_details
        for cached in (usage.prompt_cache_hit_tokens, details.cached_tokens if details else None):
            self._cached = self._cached if cached is None else cached
        if usage.completion_tokens is not None:
            self._usage = usage
        return usage.completion_tokens

    # --- the end

    def response(self, whole: bool, ended: bool) -> Response:
        """`whole`: nothing of the body is missing. `ended`: its end was marked, not by closing alone."""
        if gave_up := [reason for reason in self._reasons if finish_name(reason) in GAVE_UP]:
            why = f"finish_reason {_short(gave_up[0])!r} after {len(self._positions)} events"
            return self.failure(Outcome.ABORTED, f"the engine gave up: {why}")
        if not self.done and whole and ended and self._positions:
            self.done = True
            self.oddities[NO_FINISH] = None
        if not (whole and self.done):
            return self.failure(
                Outcome.CUT, f"the stream was cut off after {len(self._positions)} events"
            )
        doubts = self._named_doubts()
        tokens = self._tokens(doubts)
        if tokens is not None and self._silent:
            self._add_silent(tokens)
        if not self._positions:
            more = f": {next(iter(doubts))}" if doubts else ""
            return Response(Outcome.MALFORMED, 200, error=f"the response had no output{more}")
        split, exact = split_tokens(self._so_far, tokens)
        if not exact and running(self._so_far) and tokens is not None:
            doubts[RUNNING] = None
        return Response(
            Outcome.COMPLETED,
            200,
            self._stamps_ns(),
            split,
            exact,
            self._usage.prompt_tokens,
            tokens,
            cached_tokens=self._cached,
            doubts=tuple(doubts),
            oddities=tuple(self.oddities),
        )

    def failure(self, outcome: Outcome, line: str) -> Response:
        """A response that failed, with what came before."""
        split, exact = split_tokens(self._so_far, None)
        return Response(outcome, 200, self._stamps_ns(), split, exact, error=line)

    def _stamps_ns(self) -> tuple[int, ...]:
        return tuple(self._times.at(self._positions))

    # --- tokens

    def _named_doubts(self) -> dict[str, None]:
        unknown = [UNKNOWN_FIELD.format(_short(name)) for name in self._unknown]
        strange = [reason for reason in self._reasons if finish_name(reason) not in FINISHED]
        unknown += [UNKNOWN_FINISH.format(_short(reason)) for reason in strange]
        return dict.fromkeys(unknown[:_NAMES_MAX])

    def _tokens(self, doubts: dict[str, None]) -> int | None:
        """The output tokens by `usage`, as far as it can be true; adds to `doubts`."""
        tokens, events = self._usage.completion_tokens, len(self._positions)
        if tokens is None or tokens == events:
            return tokens
        details = self._usage.completion_tokens_details
        hidden = (details.reasoning_tokens if details else None) or 0
        if 0 < hidden <= tokens - events and not self._streams(REASONING_FIELDS):
            doubts[HIDDEN] = None
            tokens -= hidden
        if tokens + tokens // _SLACK < events:
            doubts[TOO_FEW] = None
            return events
        if tokens > events and self._impossible(tokens):
            doubts[TOO_MANY] = None
            return events
        return tokens

    def _impossible(self, tokens: int) -> bool:
        """Whether it is more than `max_tokens` allows, or than the text has bytes."""
        if self._asked is not None and tokens > self._asked + 1:
            return True
        if self._streams(CALL_FIELDS):
            return False  # braces and names of fields are tokens too
        texts = (
            text
            for event in self._events
            for choice in event.choices or ()
            for text in texts_of(choice)
        )
        size = sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)
        return tokens > size + len(self._silent) + _SPECIAL_TOKENS

    def _streams(self, names: tuple[str, ...]) -> bool:
        return any(has_field(c, names) for event in self._events for c in event.choices or ())

    def _add_silent(self, tokens: int) -> None:
        """Events without text that `usage` shows to be tokens: parts of a character, ends of a text.

        They count if there are as many as tokens are missing. The finish alone counts as the arrival of the
        rest.
        """
        so_far, positions = self._so_far, self._positions
        if tokens == len(positions) or (not positions and tokens > 1):
            return
        last = positions[-1] if positions else -1
        reported = bool(so_far) and so_far[-1] >= 0
        missing = tokens - (so_far[-1] if reported else len(positions))
        silent = [at for at in self._silent if at > last] if reported else self._silent
        if missing > 0 and missing == len(silent) - 1 and silent[-1] == self._finish:
            silent = silent[:-1]
        if missing <= 0 or missing != len(silent):
            silent = [self._finish] if missing > 0 and self._finish > last else []
        if not silent:
            return
        if silent[0] > last:
            positions += silent
            so_far += range(tokens - len(silent) + 1, tokens + 1)
            return
        self._positions = sorted((*positions, *silent))
        self._so_far = [-1] * len(self._positions)


def running(so_far: Sequence[int]) -> bool:
    """Whether each event reported a token count."""
    return bool(so_far) and min(so_far) >= 0


def split_tokens(so_far: Sequence[int], total: int | None) -> tuple[tuple[int, ...], bool]:
    """The tokens of each event, and whether they are known, not spread evenly.

    `so_far`: the running total that each event reported, -1 where it reported none. `total`: of the
    response.
    """
    events = len(so_far)
    if total == events:
        return (1,) * events, True
    if running(so_far):
        each = tuple(b - a for a, b in pairwise((0, *so_far)))
        if (
            min(each) >= 0
            and each.count(0) <= events // _SLACK
            and (total is None or sum(each) <= total)
        ):
            return each, True
    if total is None:
        return (1,) * events, False
    return tuple((i + 1) * total // events - i * total // events for i in range(events)), False


def _short(name: str) -> str:
    return name if len(name) <= _NAME_MAX else f"{name[:_NAME_MAX]}…"


def _unknown_fields(data: bytes) -> tuple[str, ...]:
    """Fields with text whose meaning is not known, of an event in which no output was found."""
    try:
        value = json.loads(data.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return ()
    choices = value.get("choices") if isinstance(value, dict) else None
    if not isinstance(choices, list) or not choices:
        known = isinstance(value, dict) and (value.get("usage") or value.get("error"))
        return (
            () if known or not isinstance(value, dict) else tuple(_named(value, _OUTSIDE_CHOICES))
        )
    found = dict[str, None]()
    for choice in (each for each in choices if isinstance(each, dict)):
        delta = choice.get("delta")
        for name in _unlisted(choice, _SILENT_CHOICE | {"delta", "text", "error"}):
            found[name] = None
        if isinstance(delta, dict):
            for name in _unlisted(delta, _SILENT_DELTA | frozenset(OUTPUT_FIELDS)):
                found[f"delta.{name}"] = None
    return tuple(found)


def _named(value: Mapping[str, Any], names: tuple[str, ...]) -> Iterator[str]:
    return (name for name in names if is_text(value.get(name)))


def _unlisted(value: Mapping[str, Any], listed: frozenset[str]) -> Iterator[str]:
    return (name for name, inner in value.items() if name not in listed and is_text(inner))
