"""A request and the bytes of its response, built beforehand so that a token costs one write."""

import time
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import msgspec

from serving.twin.engine.request import Request
from serving.twin.server.http import Connection
from serving.twin.server.requests import CompletionRequest

WORD = b" tok"  # the text of every token
HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
    b"Cache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n"
)
DONE = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
_MARK = "\0"
_encode = msgspec.json.encode
_numbers = count(1)


@dataclass(slots=True, eq=False)
class ServedRequest(Request):
    """A request over a connection.

    `interval`: tokens per streamed event after the first. `sent`: output tokens written; `due`: generated,
    those that `interval` holds back included. `event`: the bytes of an event of one token; empty if each event
    differs. Every output has exactly `output_tokens` tokens.
    """

    connection: Connection = field(kw_only=True)
    model: str = field(kw_only=True)
    asked: CompletionRequest = field(kw_only=True)
    interval: int = field(kw_only=True, default=1)
    sent: int = field(kw_only=True, default=0)
    due: int = field(kw_only=True, default=0)
    event: bytes = field(init=False, default=b"")
    _before: bytes = field(init=False, default=b"")
    _after: bytes = field(init=False, default=b"")
    _last: bytes = field(init=False, default=b"")
    _fields: dict[str, Any] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        chat, stream = self.asked.chat, self.asked.stream
        kind = "chat.completion" if chat else "text_completion"
        self._fields = {
            "id": f"{'chatcmpl' if chat else 'cmpl'}-twin{next(_numbers):012x}",
            "object": kind + ".chunk" if chat and stream else kind,
            "created": int(time.time()),
            "model": self.model,
        }
        if not stream:
            return
        self._before, self._after = self._split_event(None)
        self._last = self._split_event("length")[1]
        if not self.asked.continuous_usage and self.interval == 1:
            self.event = framed(self._before + WORD + self._after + b"}\n\n")

    def stream(self, due: int) -> None:
        """Writes output up to the `due`-th token. The last one is written by `finish`."""
        self.due = due
        if due >= self.output_tokens or not self.asked.stream:
            return
        new = due - self.sent
        if not self.sent:
            self.connection.write(HEAD + self._opening() + self._events(new, self._after))
        elif new < self.interval:
            return
        elif new == 1 and self.event:
            self.connection.write(self.event)
        else:
            self.connection.write(self._events(new, self._after))
        self.sent = due

    def finish(self) -> None:
        """Writes the remaining output, the usage and the end."""
        connection, total = self.connection, self.output_tokens
        if self.asked.stream:
            self.due = total
            head = b"" if self.sent else HEAD + self._opening()
            last = self._events(total - self.sent, self._last)
            usage = b""
            if self.asked.usage:
                last_event = _encode({**self._fields, "choices": [], "usage": self.usage(total)})
                usage = framed(b"data: " + last_event + b"\n\n")
            connection.write(head + last + usage + DONE)
            self.sent = total
            connection.finished()
            return
        self.sent = self.due = total
        text = (WORD * total).decode()
        choice: dict[str, Any] = {"index": 0, "logprobs": None, "finish_reason": "length"}
        if self.asked.chat:
            choice["message"] = {"role": "assistant", "content": text}
        else:
            choice["text"] = text
        connection.reply(_encode({**self._fields, "choices": [choice], "usage": self.usage(total)}))

    def usage(self, output: int) -> dict[str, int]:
        """OpenAI's usage object after so many output tokens."""
        total = self.prompt_tokens + output
        return {
            "prompt_tokens": self.prompt_tokens,
            "total_tokens": total,
            "completion_tokens": output,
        }

    def _split_event(self, finish: str | None) -> tuple[bytes, bytes]:
        """The bytes of an event before its text, and after it without the last brace."""
        text: dict[str, Any] = {"delta": {"content": _MARK}} if self.asked.chat else {"text": _MARK}
        choice = {"index": 0, **text, "logprobs": None, "finish_reason": finish}
        event = _encode({**self._fields, "choices": [choice]})
        before, _, after = event.partition(_encode(_MARK)[1:-1])
        return b"data: " + before, after[:-1]

    def _opening(self) -> bytes:
        """A chat stream begins with the role."""
        if not self.asked.chat:
            return b""
        choice = {
            "index": 0,
            "delta": {"role": "assistant", "content": ""},
            "logprobs": None,
            "finish_reason": None,
        }
        return framed(b"data: " + _encode({**self._fields, "choices": [choice]}) + b"\n\n")

    def _events(self, tokens: int, after: bytes) -> bytes:
        usage = b""
        if self.asked.continuous_usage:
            usage = b',"usage":' + _encode(self.usage(self.sent + tokens))
        return framed(b"".join((self._before, WORD * tokens, after, usage, b"}\n\n")))


def framed(event: bytes) -> bytes:
    """The event as a chunk of the transfer encoding."""
    return b"%x\r\n%b\r\n" % (len(event), event)
