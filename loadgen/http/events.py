"""One event of a stream: decoded as other clients read it, and what in it is output."""

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import msgspec

Count = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]  # fits the int32 column of the records
_COUNT_MAX = 2**31

ODD_USAGE = "usage has token counts that are no whole numbers"
ODD_EVENT = "an event was no JSON object, and was skipped"
ODD_TEXT = "an event had half of a surrogate pair, NaN, or a field of an unexpected type"

# Fields of a delta that hold output, the text of the answer first.
REASONING_FIELDS = (
    "reasoning_content",
    "reasoning",
    "reasoning_text",
    "reasoning_details",
    "thinking",
    "thinking_content",
    "thinking_blocks",
    "thought",
)
CALL_FIELDS = ("tool_calls", "function_call", "audio")  # tokens that are not all streamed as text
OUTPUT_FIELDS = ("content", *REASONING_FIELDS, *CALL_FIELDS, "refusal")
LABELS = frozenset({"type", "index", "id", "format", "role", "signature"})

FINISHED = frozenset({
    "complete", "completed", "done", "end_turn", "eos", "eos_token", "finish", "finished", "function_call",
    "length", "max_length", "max_output_tokens", "max_tokens", "model_length", "stop", "stop_sequence",
    "stop_str", "stop_string", "stop_token", "stop_words", "tool_call", "tool_calls", "tool_use",
})  # fmt: skip
GAVE_UP = frozenset({
    "abort", "aborted", "blocklist", "cancel", "canceled", "cancellation", "cancelled", "content_filter",
    "content_filtered", "engine_error", "error", "failed", "failure", "guardrail_intervened",
    "insufficient_system_resource", "internal_error", "model_error", "network_error", "overloaded",
    "preempted", "prohibited_content", "recitation", "refusal", "safety", "sensitive", "server_error",
    "timed_out", "timeout",
})  # fmt: skip

_COMMENT = re.compile(r"\s*(?::.*|[A-Za-z][\w .-]*|\[DONE\])?\s*", re.DOTALL | re.IGNORECASE)


class Delta(msgspec.Struct, gc=False):
    """The new part of a choice."""

    role: str | None = None
    content: object = None
    reasoning_content: object = None
    reasoning: object = None
    reasoning_text: object = None
    reasoning_details: object = None
    thinking: object = None
    thinking_content: object = None
    thinking_blocks: object = None
    thought: object = None
    tool_calls: object = None
    function_call: object = None
    audio: object = None
    refusal: object = None


class Choice(msgspec.Struct, gc=False):
    """One alternative of the answer."""

    text: str | None = None
    delta: Delta | None = None
    finish_reason: str | None = None
    error: object = None


class OutputDetails(msgspec.Struct, gc=False):
    """How `completion_tokens` are made up."""

    reasoning_tokens: Count | None = None


class PromptDetails(msgspec.Struct, gc=False):
    """How `prompt_tokens` are made up."""

    cached_tokens: Count | None = None


class Usage(msgspec.Struct, gc=False):
    """Token counts."""

    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None
    prompt_cache_hit_tokens: Count | None = None  # DeepSeek's name
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: OutputDetails | None = None


class CacheTimings(msgspec.Struct, gc=False):
    """llama.cpp's own report."""

    cache_n: Count | None = None


class Event(msgspec.Struct, gc=False):
    """One event."""

    choices: list[Choice] | None = None
    usage: Usage | None = None
    error: object = None
    kind: object = msgspec.field(name="object", default=None)
    message: object = None
    detail: object = None
    timings: CacheTimings | None = None

    @property
    def is_error(self) -> bool:
        """Whether it reports an error, in one of the forms that servers and proxies use."""
        if self.error or self.kind == "error":
            return True
        if any(choice.error for choice in self.choices or ()):
            return True
        spoken = isinstance(self.message, str) or isinstance(self.detail, str)
        return spoken and self.choices is None and self.usage is None


class MalformedEvent(ValueError):
    """The data of an event is no JSON."""


decode_strictly = msgspec.json.Decoder(Event).decode


def decode(data: bytes) -> tuple[Event | None, str]:
    """The event, None if it is to be skipped, and what is odd about it. Raises MalformedEvent."""
    try:
        return decode_strictly(data), ""
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _decode_leniently(data.decode("utf-8", "replace"))


def _decode_leniently(text: str) -> tuple[Event | None, str]:
    if _COMMENT.fullmatch(text):
        return None, "" if not text.strip() or text.lstrip().startswith((":", "[")) else ODD_EVENT
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MalformedEvent(str(error)) from None
    if isinstance(value, dict):
        return _event_of(value)
    if isinstance(value, list) and value:
        raise MalformedEvent("a list instead of an object")
    return None, ODD_EVENT


def _event_of(value: Mapping[str, Any]) -> tuple[Event, str]:
    choices = value.get("choices")
    made = None
    if isinstance(choices, list):
        made = [_choice_of(each) for each in choices if isinstance(each, dict)]
    given = value.get("usage")
    usage = _usage_of(given) if isinstance(given, dict) else None
    timings = value.get("timings")
    cache_n = count_of(timings.get("cache_n")) if isinstance(timings, dict) else None
    event = Event(
        made,
        usage,
        value.get("error"),
        value.get("object"),
        value.get("message"),
        value.get("detail"),
        CacheTimings(cache_n),
    )
    counts = (given.get("prompt_tokens"), given.get("completion_tokens")) if usage and given else ()
    odd = any(count is not None and type(count) is not int for count in counts)
    return event, ODD_USAGE if odd else ODD_TEXT


def _choice_of(value: Mapping[str, Any]) -> Choice:
    delta, text, finish = value.get("delta"), value.get("text"), value.get("finish_reason")
    if isinstance(finish, dict):  # SGLang's own form: {"type": "length", "length": 16}
        finish = finish.get("type")
    return Choice(
        text if isinstance(text, str) else None,
        _delta_of(delta) if isinstance(delta, dict) else None,
        None if finish is None else str(finish),
        value.get("error"),
    )


def _delta_of(value: Mapping[str, Any]) -> Delta:
    role = value.get("role")
    fields = {name: value.get(name) for name in OUTPUT_FIELDS}
    return Delta(role=role if isinstance(role, str) else None, **fields)


def _usage_of(value: Mapping[str, Any]) -> Usage:
    prompt, output = value.get("prompt_tokens_details"), value.get("completion_tokens_details")
    cached = count_of(prompt.get("cached_tokens")) if isinstance(prompt, dict) else None
    reasoning = count_of(output.get("reasoning_tokens")) if isinstance(output, dict) else None
    return Usage(
        count_of(value.get("prompt_tokens")),
        count_of(value.get("completion_tokens")),
        count_of(value.get("prompt_cache_hit_tokens")),
        PromptDetails(cached),
        OutputDetails(reasoning),
    )


def count_of(value: object) -> int | None:
    """A token count, also where it is written as 8.0 or "8"; None where it is no count at all."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return int(value) if 0 <= value < _COUNT_MAX and value == int(value) else None


# --- output


def finish_name(reason: str) -> str:
    """A finish reason as it is compared: engines differ in case and in hyphens."""
    return reason.strip().lower().replace("-", "_").replace(" ", "_")


def is_text(value: object) -> bool:
    """Whether a field holds any text, in itself or in its parts."""
    if isinstance(value, str):
        return bool(value)
    if isinstance(value, list):
        return any(map(is_text, value))
    if isinstance(value, dict):
        return any(is_text(inner) for name, inner in value.items() if name not in LABELS)
    return False


def carries_output(choice: Choice) -> bool:
    """Whether it has text. An empty text is none, wherever it stands; so is a role or a finish alone."""
    delta = choice.delta
    if delta is None:
        return bool(choice.text)
    if is_text(delta.content):
        return True
    return any(is_text(getattr(delta, name)) for name in OUTPUT_FIELDS[1:]) or bool(choice.text)


def texts_of(choice: Choice) -> Iterator[str]:
    """All text in it."""
    yield choice.text or ""
    if choice.delta is not None:
        for name in OUTPUT_FIELDS:
            yield from _strings(getattr(choice.delta, name))


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for each in value:
            yield from _strings(each)
    elif isinstance(value, dict):
        for name, inner in value.items():
            if name not in LABELS:
                yield from _strings(inner)


def has_field(choice: Choice, names: tuple[str, ...]) -> bool:
    """Whether one of these fields of the delta holds text."""
    return choice.delta is not None and any(is_text(getattr(choice.delta, name)) for name in names)
