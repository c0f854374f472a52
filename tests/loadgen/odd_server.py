"""An endpoint that answers as a script says, byte by byte, and logs what it was asked and when it sent."""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvloop

STREAM = (("Content-Type", "text/event-stream"),)


@dataclass(frozen=True)
class Part:
    """Bytes of a body, sent `after_s` seconds after those before. `token`: they are logged as output."""

    data: bytes
    after_s: float = 0.0
    token: bool = False


@dataclass(frozen=True)
class Answer:
    """A response in chunks, unless `length` is set."""

    parts: Sequence[Part]
    headers: Sequence[tuple[str, str]] = STREAM
    status: str = "200 OK"
    length: bool = False


@dataclass
class Asked:
    """A request, and when each of its tokens was sent."""

    head: bytes
    body: dict[str, Any]
    sent_ns: list[int] = field(default_factory=list)


Script = Callable[[dict[str, Any], int], Answer]  # body and number of a request, from 0


class OddServer:
    def __init__(self, script: Script) -> None:
        self.asked: list[Asked] = []
        self.port = 0
        self._script = script

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if head.startswith(b"GET"):
                    await self._listed(head, writer)
                    continue
                length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                asked = Asked(head, json.loads(await reader.readexactly(length)))
                self.asked.append(asked)
                await answered(self._script(asked.body, len(self.asked) - 1), asked, writer)
        except (asyncio.IncompleteReadError, ConnectionError, RuntimeError):
            pass  # the client is gone; uvloop raises RuntimeError
        finally:
            writer.close()

    async def _listed(self, head: bytes, writer: asyncio.StreamWriter) -> None:
        self.asked.append(Asked(head, {}))
        listed = b'{"data": [{"id": "odd"}]}'
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(listed), listed))


async def answered(answer: Answer, asked: Asked, writer: asyncio.StreamWriter) -> None:
    size = sum(len(part.data) for part in answer.parts)
    framing = ("Content-Length", str(size)) if answer.length else ("Transfer-Encoding", "chunked")
    lines = "".join(f"{name}: {value}\r\n" for name, value in (*answer.headers, framing))
    writer.write(f"HTTP/1.1 {answer.status}\r\n{lines}\r\n".encode())
    for part in answer.parts:
        if part.after_s:
            await asyncio.sleep(part.after_s)
        if part.token:
            asked.sent_ns.append(time.perf_counter_ns())
        if part.data:
            chunk = b"%x\r\n%b\r\n" % (len(part.data), part.data)
            writer.write(part.data if answer.length else chunk)
    if not answer.length:
        writer.write(b"0\r\n\r\n")
    await writer.drain()


@contextmanager
def odd_server(script: Script) -> Iterator[OddServer]:
    """Runs in a thread with its own event loop, on a free port."""
    odd, ready = OddServer(script), threading.Event()
    loop, over = uvloop.new_event_loop(), asyncio.Event()

    async def serve() -> None:
        server = await asyncio.start_server(odd.handle, "127.0.0.1", 0, backlog=1024)
        odd.port = server.sockets[0].getsockname()[1]
        ready.set()
        await over.wait()
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def run() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(serve())

    thread = threading.Thread(target=run)
    thread.start()
    ready.wait()
    try:
        yield odd
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()


# --- a stream, and places to bend it

TTFT_S, NEXT_S = 0.06, 0.01


def event(value: object) -> bytes:
    """One event of a stream."""
    return b"data: " + (value if isinstance(value, bytes) else json.dumps(value).encode()) + b"\n\n"


def said(chat: bool, text: str, finish: object = None, **more: object) -> dict[str, Any]:
    """An event with one choice. `more`: fields of its delta."""
    choice: dict[str, Any] = {"index": 0, "finish_reason": finish}
    choice |= {"delta": {"content": text, **more}} if chat else {"text": text, **more}
    return {"id": "x", "choices": [choice]}


def stream(
    body: dict[str, Any],
    *,
    tokens: int | None = None,
    early: Sequence[bytes] = (),
    token: Callable[[bool, int], object] | None = None,
    between: Callable[[bool, int], Sequence[bytes]] = lambda chat, index: (),
    late: Sequence[Part] = (),
    finish: object = "length",
    usage: object = ...,
    done: bool = True,
) -> Answer:
    """As asked for: `early` at once, the first token after TTFT_S, then one each NEXT_S."""
    chat = "messages" in body
    asked = int(body.get("max_tokens") or body.get("max_completion_tokens") or 8)
    count = asked if tokens is None else tokens
    parts = [Part(piece) for piece in early]
    for index in range(count):
        made = token(chat, index) if token else said(chat, f" w{index}")
        parts.append(Part(event(made), NEXT_S if index else TTFT_S, token=True))
        parts += [Part(piece, NEXT_S) for piece in between(chat, index)]
    if not count:
        parts.append(Part(b"", TTFT_S))
    if finish is not None:
        parts.append(Part(event(said(chat, "", finish))))
    parts += late
    counted = {"prompt_tokens": 8, "completion_tokens": count} if usage is ... else usage
    if counted is not None:
        parts.append(Part(event({"choices": [], "usage": counted})))
    if done:
        parts.append(Part(b"data: [DONE]\n\n"))
    return Answer(parts)
