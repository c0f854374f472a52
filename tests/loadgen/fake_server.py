"""A streaming endpoint with configurable faults, and a log of what it received and sent."""

import asyncio
import itertools
import json
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import uvloop


@dataclass
class Behaviour:
    ttft_s: float = 0.002
    itl_s: float = 0.001
    framing: Literal["chunked", "length", "until_close"] = "chunked"
    close: Literal["no", "announced", "silent"] = "no"  # after each response
    line_end: bytes = b"\n"
    comments: bool = False
    fragment: int = 0  # bytes per write; 0: one write per event
    role_first: bool = False  # chat: a chunk with the role alone
    silent_finish: bool = False  # one event more than tokens, as in llama.cpp
    usage: Literal["apart", "last", "no"] = "apart"
    tokens_per_event: int = 1
    status: int = 200
    preface: bytes = b"HTTP/1.1 200 OK"  # sent before the headers
    error_body: bytes = b'{"error": {"message": "no such model", "code": 404}}'
    cut_after: int | None = None  # events, then the connection is reset
    error_after: int | None = None  # events, then an error event
    hang: bool = False  # never responds
    stall: tuple[float, float] | None = None  # begin and end, seconds after the first request
    workers: int | None = None  # requests served at a time; others wait
    page: bytes = b'{"data": [{"id": "fake"}]}'  # of any GET


@dataclass
class Served:
    """One request as the server saw it."""

    body: dict[str, Any]
    received_ns: int
    sent_ns: list[int] = field(default_factory=list)  # of each event with output
    finished_ns: int = 0


class FakeServer:
    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.served: list[Served] = []
        self.connections = 0
        self.in_flight = 0
        self.most_in_flight = 0
        self.port = 0
        self._places: asyncio.Semaphore | None = None
        self._first_ns = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            for number in itertools.count():
                head = await reader.readuntil(b"\r\n\r\n")
                if number and self.behaviour.close == "silent":
                    reset(writer)
                    return
                if not await self.reply(head, reader, writer):
                    return
        except (asyncio.IncompleteReadError, ConnectionError, RuntimeError):
            pass  # the client is gone; uvloop raises RuntimeError
        finally:
            writer.close()

    async def reply(
        self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Returns whether the connection stays open."""
        if head.startswith(b"GET"):
            page = self.behaviour.page
            writer.write(plain_head(200, len(page)) + page)
            return True
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        served = Served(json.loads(await reader.readexactly(length)), time.perf_counter_ns())
        self._first_ns = self._first_ns or served.received_ns
        self.served.append(served)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            if self._places is None:
                return await self.answer(served, writer)
            async with self._places:
                return await self.answer(served, writer)
        finally:
            served.finished_ns = time.perf_counter_ns()
            self.in_flight -= 1

    async def answer(self, served: Served, writer: asyncio.StreamWriter) -> bool:
        how = self.behaviour
        if how.hang:
            await asyncio.sleep(3600)
        if how.status != 200:
            writer.write(plain_head(how.status, len(how.error_body)) + how.error_body)
            return True
        await self.stalled()
        events = list(self.events(served))
        writer.write(self.head(events))
        await asyncio.sleep(how.ttft_s)
        return await self.stream(events, served, writer)

    def head(self, events: list[tuple[bytes, bool]]) -> bytes:
        how = self.behaviour
        headers = [how.preface, b"Content-Type: text/event-stream; charset=utf-8"]
        if how.framing == "chunked":
            headers.append(b"Transfer-Encoding: chunked")
        elif how.framing == "length":
            headers.append(b"Content-Length: %d" % sum(len(data) for data, _ in events))
        if how.close == "announced":
            headers.append(b"Connection: close")
        return b"\r\n".join(headers) + b"\r\n\r\n"

    async def stream(
        self, events: list[tuple[bytes, bool]], served: Served, writer: asyncio.StreamWriter
    ) -> bool:
        how = self.behaviour
        for index, (data, output) in enumerate(events):
            if how.cut_after == index:
                reset(writer)
                return False
            if index:
                await asyncio.sleep(how.itl_s)
            await self.stalled()
            if output:
                served.sent_ns.append(time.perf_counter_ns())
            await self.write(data, writer)
        if how.framing == "chunked":
            await self.write(b"", writer)
        return how.close != "announced" and how.framing != "until_close"

    async def write(self, data: bytes, writer: asyncio.StreamWriter) -> None:
        if self.behaviour.framing == "chunked":
            data = b"%x\r\n%b\r\n" % (len(data), data)
        size = self.behaviour.fragment or len(data)
        for start in range(0, len(data), size):
            writer.write(data[start : start + size])
            if self.behaviour.fragment:
                await asyncio.sleep(0)

    async def stalled(self) -> None:
        if self.behaviour.stall is not None:
            elapsed_s = (time.perf_counter_ns() - self._first_ns) / 1e9
            begin_s, end_s = self.behaviour.stall
            if begin_s <= elapsed_s < end_s:
                await asyncio.sleep(end_s - elapsed_s)

    def events(self, served: Served) -> Iterator[tuple[bytes, bool]]:
        """Each event, and whether it carries output."""
        how, chat = self.behaviour, "messages" in served.body
        tokens = served.body["max_tokens"]
        if chat and how.role_first:
            yield self.event({"choices": [{"delta": {"role": "assistant", "content": ""}}]}), False
        prompt = served.body.get("prompt")
        count = len(prompt) if isinstance(prompt, list) else 7
        usage = {"prompt_tokens": count, "completion_tokens": tokens}
        steps = range(0, tokens, how.tokens_per_event)
        for step in steps:
            if how.error_after == step:
                yield self.event({"error": {"message": "out of blocks"}}), False
                return
            text = ' "data: {x}\\n\\n'
            choice: dict[str, Any] = {"delta": {"content": text}} if chat else {"text": text}
            last = step == steps[-1] and not how.silent_finish
            choice["finish_reason"] = "length" if last else None
            event: dict[str, Any] = {"choices": [choice]}
            if last and how.usage == "last":
                event["usage"] = usage
            yield self.event(event), True
        if how.silent_finish:
            empty = {"delta": {}} if chat else {"text": ""}
            yield self.event({"choices": [{**empty, "finish_reason": "length"}]}), False
        if how.usage == "apart":
            yield self.event({"choices": [], "usage": usage}), False
        yield b"data: [DONE]" + how.line_end * 2, False

    def event(self, value: dict[str, Any]) -> bytes:
        end = self.behaviour.line_end
        comment = b": ping" + end + end if self.behaviour.comments else b""
        return comment + b"data: " + json.dumps(value).encode() + end * 2


def plain_head(status: int, length: int) -> bytes:
    return b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (
        status,
        length,
    )


def reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@contextmanager
def fake_server(behaviour: Behaviour | None = None) -> Iterator[FakeServer]:
    """Runs in a thread with its own event loop, on a free port."""
    fake = FakeServer(behaviour or Behaviour())
    ready = threading.Event()
    ends: list[asyncio.Event] = []
    loops: list[asyncio.AbstractEventLoop] = []

    async def serve() -> None:
        if fake.behaviour.workers is not None:
            fake._places = asyncio.Semaphore(fake.behaviour.workers)
        server = await asyncio.start_server(fake.handle, "127.0.0.1", 0, backlog=1024)
        fake.port = server.sockets[0].getsockname()[1]
        loops.append(asyncio.get_running_loop())
        ends.append(asyncio.Event())
        ready.set()
        await ends[0].wait()
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    thread = threading.Thread(target=lambda: uvloop.run(serve()))
    thread.start()
    ready.wait()
    try:
        yield fake
    finally:
        loops[0].call_soon_threadsafe(ends[0].set)
        thread.join()
