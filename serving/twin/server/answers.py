"""A request and the bytes that answer it: built beforehand, so that a token costs one write."""

import time
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import msgspec

from serving.twin.engine.request import Request
from serving.twin.server.asks import Ask
from serving.twin.server.http import Connection

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
class Answer(Request):
    """`sent`: output tokens that were written; `due`: that are made, with those held back for
    `stream_interval`. A reply that stops earlier than `max_tokens` does not exist here."""

    connection: Connection = field(kw_only=True)
    model: str = field(kw_only=True)
    ask: Ask = field(kw_only=True)
    interval: int = field(kw_only=True, default=1)
    sent: int = field(kw_only=True, default=0)
    due: int = field(kw_only=True, default=0)
    plain: bytes = field(
        init=False, default=b""
    )  # the event of one token; empty: made anew each time
    _before: bytes = field(init=False, default=b"")
    _after: bytes = field(init=False, default=b"")
    _last: bytes = field(init=False, default=b"")
    _told: dict[str, Any] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        chat, stream = self.ask.chat, self.ask.stream
        kind = "chat.completion" if chat else "text_completion"
        self._told = {
            "id": f"{'chatcmpl' if chat else 'cmpl'}-twin{next(_numbers):012x}",
            "object": kind + ".chunk" if chat and stream else kind,
            "created": int(time.time()),
            "model": self.model,
        }
        if not stream:
            return
        self._before, self._after = self._around(None)
        self._last = self._around("length")[1]
        if not self.ask.continuous_usage and self.interval == 1:
            self.plain = framed(self._before + WORD + self._after + b"}\n\n")

    def give(self, due: int) -> None:
        """So many output tokens exist now. The last comes with `finish`."""
        self.due = due
        if due >= self.output_tokens or not self.ask.stream:
            return
        new = due - self.sent
        if not self.sent:
            self.connection.write(HEAD + self._opening() + self._event(new, self._after))
        elif new < self.interval:
            return
        elif new == 1 and self.plain:
            self.connection.write(self.plain)
        else:
            self.connection.write(self._event(new, self._after))
        self.sent = due

    def finish(self) -> None:
        """All tokens are made: the rest, the usage, the end."""
        connection, total = self.connection, self.output_tokens
        if self.ask.stream:
            self.due = total
            head = b"" if self.sent else HEAD + self._opening()
            last = self._event(total - self.sent, self._last)
            usage = b""
            if self.ask.usage:
                told = _encode({**self._told, "choices": [], "usage": self.usage(total)})
                usage = framed(b"data: " + told + b"\n\n")
            connection.write(head + last + usage + DONE)
            self.sent = total
            connection.finished()
            return
        self.sent = self.due = total
        text = (WORD * total).decode()
        choice: dict[str, Any] = {"index": 0, "logprobs": None, "finish_reason": "length"}
        if self.ask.chat:
            choice["message"] = {"role": "assistant", "content": text}
        else:
            choice["text"] = text
        connection.reply(_encode({**self._told, "choices": [choice], "usage": self.usage(total)}))

    def usage(self, output: int) -> dict[str, int]:
        total = self.prompt_tokens + output
        return {
            "prompt_tokens": self.prompt_tokens,
            "total_tokens": total,
            "completion_tokens": output,
        }

    def _around(self, finish: str | None) -> tuple[bytes, bytes]:
        """What of an event stands before its text, and after it up to the last brace."""
        text: dict[str, Any] = {"delta": {"content": _MARK}} if self.ask.chat else {"text": _MARK}
        choice = {"index": 0, **text, "logprobs": None, "finish_reason": finish}
        event = _encode({**self._told, "choices": [choice]})
        before, _, after = event.partition(_encode(_MARK)[1:-1])
        return b"data: " + before, after[:-1]

    def _opening(self) -> bytes:
        """Chat begins with the role."""
        if not self.ask.chat:
            return b""
        choice = {
            "index": 0,
            "delta": {"role": "assistant", "content": ""},
            "logprobs": None,
            "finish_reason": None,
        }
        return framed(b"data: " + _encode({**self._told, "choices": [choice]}) + b"\n\n")

    def _event(self, tokens: int, after: bytes) -> bytes:
        usage = b""
        if self.ask.continuous_usage:
            usage = b',"usage":' + _encode(self.usage(self.sent + tokens))
        return framed(b"".join((self._before, WORD * tokens, after, usage, b"}\n\n")))


def framed(event: bytes) -> bytes:
    """As a chunk of the transfer encoding."""
    return b"%x\r\n%b\r\n" % (len(event), event)
