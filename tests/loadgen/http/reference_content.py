"""What the events of a response mean: the part of the reference parser above HTTP and event streams."""

import json
import math
import string
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Truth:
    outcome: str
    status: int = 0
    outputs: list[int] = field(default_factory=list)  # end of the data line of each event
    tokens: list[int] | None = None  # of those events, where known
    input_tokens: int | None = None
    output_tokens: int | None = None
    last: int | None = None  # position of the last byte, if the framing defines it


TEXTS = (
    "content", "reasoning_content", "reasoning", "reasoning_text", "reasoning_details", "thinking",
    "thinking_content", "thinking_blocks", "thought", "tool_calls", "function_call", "audio", "refusal",
)  # fmt: skip
NO_TEXT = ("type", "index", "id", "format", "role", "signature")
GAVE_UP = ("abort", "error", "content_filter", "cancelled", "timeout")
MALFORMED = object()


@dataclass
class Came:
    """An event with choices: where it ended, its text, its running token count, whether it finished."""

    where: int
    text: str
    output: bool
    total: int | None
    finished: bool


def read_stream(events: list[tuple[bytes, bytes, int]], whole: bool, unbounded: bool) -> Truth:
    came: list[Came] = []
    usage: dict[str, Any] = {}
    done = gave_up = False
    for name, data, where in events:
        if name == b"error":
            return failed("STREAM_ERROR", came)
        if data.strip().upper() == b"[DONE]":
            done = True
            continue
        event = lenient(data)
        if event is MALFORMED:
            return failed("MALFORMED", came)
        if is_error(event):
            return failed("STREAM_ERROR", came)
        if not isinstance(event, dict):
            continue
        choices, here = listed(event.get("choices")), mapping(event.get("usage"))
        total = whole_number(here.get("completion_tokens"))
        if total is not None:
            usage = here
        reasons = [reason for choice in choices if (reason := reason_of(choice))]
        gave_up = gave_up or any(r.strip().lower() in GAVE_UP for r in reasons)
        if choices:
            text = "".join(text_of(choice) for choice in choices)
            came.append(Came(where, text, bool(text), total, bool(reasons)))
        done = done or bool(reasons)
    return ended(came, usage, whole, done or (not unbounded and outputs_of(came) != []), gave_up)


def failed(outcome: str, came: list[Came]) -> Truth:
    seen = [each for each in came if each.output]
    return Truth(outcome, 200, outputs_of(came), known([each.total for each in seen], None))


def outputs_of(came: list[Came]) -> list[int]:
    return [each.where for each in came if each.output]


def ended(came: list[Came], usage: dict[str, Any], whole: bool, done: bool, gave_up: bool) -> Truth:
    if gave_up:
        return failed("ABORTED", came)
    if not (whole and done):
        return failed("CUT", came)
    tokens = believable(came, whole_number(usage.get("completion_tokens")))
    seen = with_silent(came, tokens)
    if not seen:
        return Truth("MALFORMED", 200)
    split = known([each.total for each in seen], tokens)
    prompt = whole_number(usage.get("prompt_tokens"))
    return Truth("COMPLETED", 200, [each.where for each in seen], split, prompt, tokens)


def believable(came: list[Came], tokens: int | None) -> int | None:
    """The count of `usage`, or that of the events where `usage` can't be true."""
    events = len(outputs_of(came))
    if tokens is None or tokens == events:
        return tokens
    if tokens + tokens // 16 < events:
        return events
    calls = any("\0" in each.text for each in came)  # see text_of
    size = sum(len(each.text.encode("utf-8", "surrogatepass")) for each in came)
    if tokens > events and not calls and tokens > size + len(silent_of(came)) + 8:
        return events
    return tokens


def silent_of(came: list[Came]) -> list[Came]:
    """Events without text after the first with text; one that finishes counts wherever it stands."""
    first = next((i for i, each in enumerate(came) if each.output), len(came))
    return [e for i, e in enumerate(came) if not e.output and (i > first or e.finished)]


def with_silent(came: list[Came], tokens: int | None) -> list[Came]:
    seen, silent = [each for each in came if each.output], silent_of(came)
    if tokens is None or not silent or tokens == len(seen) or (not seen and tokens > 1):
        return seen
    last = seen[-1].where if seen else -1
    reported = seen[-1].total if seen else None
    missing = tokens - (len(seen) if reported is None else reported)
    if reported is not None:
        silent = [each for each in silent if each.where > last]
    finishes = [each for each in came if each.finished]
    finish = finishes[-1] if finishes else None
    chosen: list[Came] = []
    if 0 < missing == len(silent):
        chosen = silent
    elif 0 < missing == len(silent) - 1 and silent[-1] is finish:
        chosen = silent[:-1]
    elif missing > 0 and finish is not None and finish.where > last:
        chosen = [finish]
    if chosen and chosen[0].where < last:
        return [Came(e.where, "", True, None, False) for e in sorted((*seen, *chosen), key=at)]
    counted = range(tokens - len(chosen) + 1, tokens + 1)
    return seen + [Came(e.where, "", True, n, False) for e, n in zip(chosen, counted, strict=True)]


def at(came: Came) -> int:
    return came.where


def known(totals: list[int | None], total: int | None) -> list[int] | None:
    """Tokens of each event: one each if there are as many; else as reported, if that can be true."""
    if total == len(totals):
        return [1] * len(totals)
    tokens, before = [], 0
    for so_far in totals:
        if so_far is None or so_far < before:
            return None
        tokens.append(so_far - before)
        before = so_far
    if tokens.count(0) > len(tokens) // 16 or (total is not None and before > total):
        return None
    return tokens or None


def lenient(data: bytes) -> Any:
    """What other clients read: None for what is to be skipped, MALFORMED for what is no JSON."""
    text = data.decode("utf-8", "replace").strip()
    if not text or text.startswith(":"):
        return None
    if text[0] in string.ascii_letters and all(c.isalnum() or c in "_ .-" for c in text):
        return None
    try:
        event = json.loads(text)
    except (ValueError, RecursionError):
        return MALFORMED
    if isinstance(event, list) and event:
        return MALFORMED
    return event if isinstance(event, dict) else None


def is_error(event: Any) -> bool:
    if not isinstance(event, dict):
        return False
    if event.get("error") or event.get("object") == "error":
        return True
    if any(choice.get("error") for choice in listed(event.get("choices"))):
        return True
    spoken = isinstance(event.get("message"), str) or isinstance(event.get("detail"), str)
    bare = not isinstance(event.get("choices"), list) and not isinstance(event.get("usage"), dict)
    return spoken and bare


def listed(value: Any) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def reason_of(choice: dict[str, Any]) -> str:
    reason = choice.get("finish_reason")
    reason = reason.get("type") if isinstance(reason, dict) else reason
    return "" if reason is None else str(reason)


def text_of(choice: dict[str, Any]) -> str:
    """All text of a choice; calls are marked with NUL."""
    delta, text = choice.get("delta"), choice.get("text")
    parts = [text] if isinstance(text, str) else []
    if isinstance(delta, dict):
        for name in TEXTS:
            found = strings(delta.get(name))
            if found and name in ("tool_calls", "function_call", "audio"):
                found += "\0"
            parts.append(found)
    return "".join(parts)


def strings(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(map(strings, value))
    if isinstance(value, dict):
        return "".join(strings(inner) for name, inner in value.items() if name not in NO_TEXT)
    return ""


def whole_number(value: Any) -> int | None:
    """A count, also as 8.0 or "8"."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if type(value) not in (int, float) or not math.isfinite(value) or not 0 <= value < 2**31:
        return None
    return int(value) if value == int(value) else None
