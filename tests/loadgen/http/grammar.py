"""Hypothesis strategies for whole responses, as engines and proxies write them."""

import json
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from tests.loadgen.http.reads import split

USAGE_STYLES = ["apart", "in the last event", "in each and apart", "in each", "none"]
texts = st.one_of(
    st.text(min_size=1, max_size=5),
    st.sampled_from(["data: x", "\n\n", "\r\n0\r\n\r\n", "[DONE]", '"', "é😀", "0"]),
)
cuts = st.lists(st.integers(0, 100_000), max_size=30)


@dataclass
class Written:
    """A raw response and what it means."""

    raw: bytes
    outputs: int
    silent: int  # later events without text, which `usage` may show to be tokens
    input_tokens: int | None = None
    output_tokens: int | None = None
    fault: bool = False


# --- events of an engine


@st.composite
def pieces(draw: st.DrawFn, chat: bool) -> dict[str, Any]:
    """One choice that carries output."""
    text = draw(texts)
    if not chat:
        return {"text": text, "index": 0, "logprobs": None}
    call = {"index": 0, "function": {"name": None, "arguments": text}}
    deltas: list[dict[str, Any]] = [
        {"content": text},
        {"content": text, "reasoning_content": None, "tool_calls": None},
        {"reasoning_content": text + "!"},
        {"reasoning": text + "!", "content": None},
        {"role": "assistant", "content": text + "!"},
        {"tool_calls": [call]},
    ]
    return {"index": 0, "delta": draw(st.sampled_from(deltas))}


@dataclass
class Draft:
    """Events under construction."""

    usage: str
    prompt: int
    events: list[dict[str, Any]]
    total: int = 0

    def add(self, choices: list[dict[str, Any]], last: bool = False) -> None:
        event: dict[str, Any] = {"id": "x", "choices": choices}
        if self.usage.startswith("in each") or (last and self.usage == "in the last event"):
            event["usage"] = self.counts()
        elif self.usage == "apart":
            event["usage"] = None
        self.events.append(event)

    def wait(self, events: int, chat: bool) -> None:
        """Events without text."""
        for _ in range(events):
            self.add([{"delta": {"content": ""}} if chat else {"text": ""}])

    def counts(self) -> dict[str, Any]:
        both = {"prompt_tokens": self.prompt, "completion_tokens": self.total}
        return {**both, "total_tokens": self.prompt + self.total, "prompt_tokens_details": None}


FAULTS: list[tuple[str, object]] = [
    ("", {"error": {"message": "out of blocks", "code": 500}}),
    ("", {"error": "out of blocks", "choices": None}),
    ("error", {"message": "out of blocks"}),
    ("error", "out of blocks"),
]


@st.composite
def event_lists(draw: st.DrawFn) -> tuple[Written, list[tuple[str, object]]]:
    """The events of a response, each with its name."""
    chat = draw(st.booleans())
    draft = Draft(draw(st.sampled_from(USAGE_STYLES)), draw(st.integers(0, 5)), [])
    sizes = draw(st.lists(st.sampled_from([1, 1, 1, 2, 5]), min_size=1, max_size=6))
    finish = draw(st.sampled_from(["with text", "apart", "apart, a token without text", "never"]))
    if chat and draw(st.booleans()):
        first = {"role": "assistant", "content": draw(st.sampled_from(["", None]))}
        draft.add([{"delta": first, "finish_reason": None}])
    quiet_events = int(finish.startswith("apart"))
    for index, size in enumerate(sizes):
        piece, last = draw(pieces(chat)), index == len(sizes) - 1
        draft.total += size
        if finish == "with text" and last:
            said = {"delta": {"content": "!"}} if chat else {"text": "!"}
            piece = {**said, "finish_reason": draw(st.sampled_from(["stop", "length"]))}
        elif draw(st.booleans()):
            piece["finish_reason"] = draw(st.sampled_from([None, ""]))
        draft.add([piece], last and finish == "with text")
        silent = draw(st.sampled_from([0, 0, 0, 0, 1, 2])) * (not last)
        draft.wait(silent, chat)
        quiet_events += silent
    if finish.startswith("apart"):
        draft.total += finish.endswith("without text")
        empty: list[dict[str, Any]] = [{"delta": {}}, {"delta": {"content": ""}}]
        quiet = draw(st.sampled_from(empty)) if chat else {"text": ""}
        draft.add([{**quiet, "finish_reason": "length"}], last=True)
    if draft.usage.endswith("apart"):
        draft.add([])
        draft.events[-1]["usage"] = draft.counts()
    events: list[tuple[str, object]] = [("", event) for event in draft.events]
    done = finish == "never" or draw(st.booleans())
    events += [("", "[DONE]")] * done
    reported = draft.usage in ("apart", "in each and apart", "in each") or (
        draft.usage == "in the last event" and finish != "never"
    )
    written = Written(b"", len(sizes), quiet_events)
    if reported:
        written.input_tokens, written.output_tokens = draft.prompt, draft.total
    if draw(st.integers(0, 7)) == 0:
        written.fault = True
        events.insert(draw(st.integers(0, len(draft.events))), draw(st.sampled_from(FAULTS)))
    return written, events


# --- encoding


@st.composite
def blocks(draw: st.DrawFn, name: str, event: object, end: str, space: str, plain: bool) -> bytes:
    """One event, with comments and other fields around it unless it is plain."""
    if plain:
        text = event if event == "[DONE]" else json.dumps(event, ensure_ascii=draw(st.booleans()))
        more = end * 2 * (draw(st.integers(0, 20)) == 0)  # empty lines are no event
        return f"data:{space}{text}{end}{end}{more}".encode()
    lines = draw(
        st.lists(st.sampled_from([": ping", ":", "id: 10", "retry: 3000", "x"]), max_size=2)
    )
    if name or draw(st.booleans()):
        lines.append(f"event:{space}{name or 'message'}")
    if event == "[DONE]":
        lines.append(f"data:{space}[DONE]")
    else:
        ascii_only, indent = draw(st.booleans()), draw(st.sampled_from([None, None, 1]))
        text = json.dumps(event, ensure_ascii=ascii_only, indent=indent)
        lines += [f"data:{space}{part}" for part in text.split("\n")]
    lines += draw(st.sampled_from([[], [], ["id: 0"], [": 0"]]))
    ping = f": ping{end}{end}" if draw(st.integers(0, 5)) == 0 else ""
    return (ping + end.join(lines) + end + end).encode("utf-8", "replace")


@st.composite
def framed(draw: st.DrawFn, status: int, kind: str, parts: list[bytes]) -> bytes:
    body = b"".join(parts)
    interim = draw(st.sampled_from([b"", b"", b"HTTP/1.1 100 Continue\r\n\r\n"]))
    headers = [b"HTTP/1.1 %d %b" % (status, draw(st.sampled_from([b"OK", b""]))), b"Server: x"]
    if kind:
        headers.append(b"content-type:%b" % kind.encode())
    wire = draw(st.sampled_from(["chunked", "as written", "length", "close"]))
    if wire in ("chunked", "as written"):
        headers.append(
            draw(st.sampled_from([b"Transfer-Encoding: chunked", b"TRANSFER-ENCODING:Chunked"]))
        )
        pieces = parts if wire == "as written" else split(body, draw(cuts))
        body = draw(chunked([piece for piece in pieces if piece]))
    elif wire == "length":
        headers.append(b"Content-Length: %d" % len(body))
    return interim + b"\r\n".join(headers) + b"\r\n\r\n" + body


@st.composite
def chunked(draw: st.DrawFn, parts: list[bytes]) -> bytes:
    form = draw(st.sampled_from([b"%x", b"%x", b"%X", b"%08x", b"%x;a=b", b"%x ; a"]))
    trailers = draw(st.sampled_from([b"", b"", b"", b"X-Trailer: 0\r\n", b"A: b\r\nC:\r\n"]))
    raw = b"".join(form % len(part) + b"\r\n" + part + b"\r\n" for part in parts)
    return raw + (form % 0) + b"\r\n" + trailers + b"\r\n"


@st.composite
def streams(draw: st.DrawFn) -> Written:
    written, events = draw(event_lists())
    usual = draw(st.booleans())
    end = "\n" if usual else draw(st.sampled_from(["\n", "\r\n", "\r"]))
    space = " " if usual else draw(st.sampled_from([" ", ""]))
    parts = []
    for name, event in events:
        plain = usual and not name and draw(st.integers(0, 20)) > 0
        parts.append(draw(blocks(name, event, end, space, plain)))
    kinds = [" text/event-stream", "text/event-stream; charset=utf-8", "Text/Event-Stream"]
    if draw(st.integers(0, 9)) == 0:
        parts = [part.replace("é".encode(), b"\xc3") for part in parts]  # half a character
    written.raw = draw(framed(200, draw(st.sampled_from(kinds)), parts))
    return written


@st.composite
def refusals(draw: st.DrawFn) -> bytes:
    status = draw(st.sampled_from([400, 401, 404, 422, 429, 500, 503, 200]))
    kinds = ["", "application/json", "text/plain"] + ["text/event-stream"] * (status != 200)
    body = draw(
        st.sampled_from(
            [b"", b'{"error": {"message": "no"}}', b"busy\r\n0\r\n\r\n", b"<html>\n", b'"\xff"']
        )
    )
    return draw(framed(status, draw(st.sampled_from(kinds)), [body]))
