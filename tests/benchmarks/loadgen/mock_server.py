"""A streaming endpoint that logs when it received each request and sent each event.

`python -m tests.benchmarks.loadgen.mock_server --ttft-ms 100 --itl-ms 20 --log truth.npz` prints its port.
Plain sockets on one event loop; events are sent on an absolute schedule, each in its own `send`, stamped just
before. With `--itl-ms 0` it writes as fast as the socket accepts, 80 events at a time. The log is
written at SIGTERM.
"""

import argparse
import asyncio
import gc
import heapq
import itertools
import random
import re
import signal
import socket
from array import array
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import uvloop

from loadgen.clock import Alarm, alarm, now_ns
from loadgen.worker.process import allow_files

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_TOKENS = re.compile(rb'"max_(?:completion_)?tokens": ?(\d+)')
_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
_FIRE_EVENTS = 80
CONNECTIONS_MOST = 20_000


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def event(chat: bool, text: str) -> bytes:
    choice = '"delta":{"content":"%s"}' if chat else '"text":"%s"'
    body = (
        '{"id":"cmpl-0123456789abcdef","object":"chunk","created":1764000000,"model":"mock",'
        '"choices":[{"index":0,%s,"logprobs":null,"finish_reason":null}]}'
    )
    return b"data: " + (body % (choice % text)).encode() + b"\n\n"


def tail(chat: bool, prompt_tokens: int, tokens: int) -> bytes:
    """The finish, the usage, and the end of the stream."""
    choice = b'"delta":{}' if chat else b'"text":""'
    finish = b'data: {"choices":[{"index":0,' + choice + b',"finish_reason":"length"}]}\n\n'
    usage = b'data: {"choices":[],"usage":{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d}}\n\n'
    counts = usage % (prompt_tokens, tokens, prompt_tokens + tokens)
    return chunk(finish + counts + b"data: [DONE]\n\n") + b"0\r\n\r\n"


@dataclass(slots=True)
class Served:
    """One request as the server saw it."""

    received_ns: int
    due_ns: "array[int]" = field(default_factory=lambda: array("q"))
    sent_ns: "array[int]" = field(default_factory=lambda: array("q"))

    def log(self, due_ns: int, at_ns: int, count: int) -> None:
        self.due_ns.extend(itertools.repeat(due_ns, count))
        self.sent_ns.extend(itertools.repeat(at_ns, count))


class Peer:
    """One connection."""

    def __init__(self, server: "Server", sock: socket.socket) -> None:
        self._server = server
        self.sock = sock
        self._got = b""
        self._unsent = b""
        self._fire = 0  # events still to be written at full speed
        self.chat = False
        self.left = 0
        self.asked = 0
        self.served: Served | None = None

    def readable(self) -> None:
        try:
            data = self.sock.recv(1 << 16)
        except BlockingIOError:
            return
        except ConnectionError:
            data = b""
        if not data:
            self._server.gone(self)
            return
        self._got += data
        at = self._got.find(b"\r\n\r\n")
        if at < 0:
            return
        head = self._got[:at]
        found = _LENGTH.search(head)
        end = at + 4 + (int(found[1]) if found else 0)
        if len(self._got) >= end:
            body, self._got = self._got[at + 4 : end], self._got[end:]
            self._request(head, body)

    def _request(self, head: bytes, body: bytes) -> None:
        if head.startswith(b"GET"):
            data = b'{"object":"list","data":[{"id":"mock","object":"model"}]}'
            self.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(data) + data)
            return
        self.chat = b"/chat/" in head.split(b"\r\n", 1)[0]
        tokens = _TOKENS.search(body)
        self.asked = self.left = int(tokens[1]) if tokens else 16
        self.served = Served(now_ns())
        self._server.begin(self)

    def fire(self) -> None:
        self._fire = self.left
        self.write(_HEAD)
        self._go_on()

    def _go_on(self) -> None:
        while self._fire and not self._unsent:
            count = min(self._fire, _FIRE_EVENTS)
            self._fire -= count
            assert self.served is not None
            self.served.log(now_ns(), now_ns(), count)
            self.write(self._server.burst[self.chat] * count)
            if not self._fire:
                self.write(tail(self.chat, 16, self.asked))

    def write(self, data: bytes) -> None:
        if self._unsent:
            self._unsent += data
            return
        try:
            sent = self.sock.send(data)
        except BlockingIOError:
            sent = 0
        except ConnectionError:
            self._server.gone(self)
            return
        if sent < len(data):
            self._unsent = data[sent:]
            asyncio.get_running_loop().add_writer(self.sock, self._writable)

    def _writable(self) -> None:
        data, self._unsent = self._unsent, b""
        asyncio.get_running_loop().remove_writer(self.sock)
        self.write(data)
        self._go_on()


class Server:
    def __init__(self, ttft_ms: float, jitter_ms: float, itl_ms: float, per_write: int) -> None:
        self._ttft_ns, self._jitter_ns = int(ttft_ms * 1e6), int(jitter_ms * 1e6)
        self._itl_ns = int(itl_ms * 1e6)
        self._per_write = per_write
        self._random = random.Random(1)
        self._heap: list[tuple[int, int, Peer]] = []
        self._turns = itertools.count()
        self._event = [chunk(event(chat, " time")) for chat in (False, True)]
        self.burst = self._event
        self.served: list[Served] = []
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.alarm: Alarm

    def accept(self, listening: socket.socket) -> None:
        while True:
            try:
                sock, _ = listening.accept()
            except BlockingIOError:
                return
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            peer = Peer(self, sock)
            asyncio.get_running_loop().add_reader(sock, peer.readable)

    def gone(self, peer: Peer) -> None:
        peer.left = 0
        if peer.sock.fileno() >= 0:
            loop = asyncio.get_running_loop()
            loop.remove_reader(peer.sock)
            loop.remove_writer(peer.sock)
            peer.sock.close()

    def begin(self, peer: Peer) -> None:
        assert peer.served is not None
        self.served.append(peer.served)
        if not self._itl_ns:
            peer.fire()
            return
        due_ns = peer.served.received_ns + self._ttft_ns
        due_ns += int(self._random.random() * self._jitter_ns)
        self._put(due_ns, peer)
        if self._heap[0][2] is peer:
            self.alarm.at(due_ns)

    def _put(self, due_ns: int, peer: Peer) -> None:
        heapq.heappush(self._heap, (due_ns, next(self._turns), peer))

    def due(self, _expirations: int) -> None:
        heap = self._heap
        while heap and heap[0][0] <= now_ns():
            due_ns, _, peer = heap[0]
            if peer.left <= 0 or peer.served is None:
                heapq.heappop(heap)
                continue
            self._send(peer, peer.served, due_ns)
            if peer.left > 0:
                heapq.heapreplace(heap, (due_ns + self._itl_ns, next(self._turns), peer))
            else:
                heapq.heappop(heap)
        if heap:
            self.alarm.at(heap[0][0])

    def _send(self, peer: Peer, served: Served, due_ns: int) -> None:
        count = min(self._per_write, peer.left)
        data = self._event[peer.chat] * count
        if peer.left == peer.asked:
            data = _HEAD + data
        peer.left -= count
        if not peer.left:
            data += tail(peer.chat, 16, peer.asked)
        at_ns = now_ns()
        peer.write(data)
        served.log(due_ns, at_ns, count)

    def save(self, path: Path) -> None:
        """Columns: `received_ns` by request; `due_ns` and `sent_ns` by event, with `offsets`."""
        counts = [len(one.sent_ns) for one in self.served]
        np.savez(
            path,
            received_ns=np.array([one.received_ns for one in self.served], np.int64),
            offsets=np.cumsum([0, *counts]),
            due_ns=np.concatenate([np.zeros(0, np.int64), *(one.due_ns for one in self.served)]),
            sent_ns=np.concatenate([np.zeros(0, np.int64), *(one.sent_ns for one in self.served)]),
        )


async def serve(args: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    server = Server(args.ttft_ms, args.ttft_jitter_ms, args.itl_ms, args.events_per_write)
    allow_files(CONNECTIONS_MOST)
    with socket.create_server(("127.0.0.1", args.port), backlog=4096) as listening:
        listening.setblocking(False)
        with alarm(loop, server.due) as server.alarm:
            loop.add_reader(listening, server.accept, listening)
            loop.add_signal_handler(signal.SIGTERM, server.over.set_result, None)
            print(listening.getsockname()[1], flush=True)  # noqa: T201 (the caller reads it)
            gc.freeze()
            gc.disable()
            await server.over
    if args.log:
        server.save(args.log)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("ttft-ms", 100.0), ("ttft-jitter-ms", 0.0), ("itl-ms", 20.0)):
        parser.add_argument(f"--{name}", type=float, default=default)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--events-per-write", type=int, default=1)
    parser.add_argument("--log", type=Path)
    uvloop.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
