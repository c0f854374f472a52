"""A small OpenAI-compatible server in a thread, whose answers a test sets."""

import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, dict[str, str], bytes]


def as_json(data: Any, status: int = 200) -> Answer:
    return status, {"Content-Type": "application/json"}, json.dumps(data).encode()


def models(*names: str, **more: Any) -> Answer:
    return as_json({"object": "list", "data": [{"id": name, **more} for name in names]})


@dataclass
class Api:
    """Its answers by path, and the requests that it had: (path, authorization, body)."""

    answers: dict[str, Answer] = field(default_factory=dict)
    key: str | None = None
    asked: list[tuple[str, str, Any]] = field(default_factory=list)
    url: str = ""

    def answer(self, path: str, key: str, body: Any) -> Answer:
        self.asked.append((path, key, body))
        if self.key is not None and key != f"Bearer {self.key}":
            return as_json({"error": "Unauthorized"}, 401)
        return self.answers.get(path, as_json({"detail": "Not Found"}, 404))


@contextmanager
def serving(api: Api, context: ssl.SSLContext | None = None) -> Iterator[str]:
    """Its URL, for the length of the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._reply(None)

        def do_POST(self) -> None:
            size = int(self.headers["Content-Length"])
            self._reply(json.loads(self.rfile.read(size)))

        def _reply(self, body: Any) -> None:
            status, headers, content = api.answer(
                self.path, self.headers.get("Authorization", ""), body
            )
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args: Any) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass  # a client that speaks another protocol

    with Quiet(("127.0.0.1", 0), Handler) as server:
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http{'' if context is None else 's'}://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def listening(reply: bytes = b"") -> Iterator[str]:
    """HOST:PORT of a server that accepts connections, and answers each with bytes, or never."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        held: list[socket.socket] = []

        def accept() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                held.append(client)
                if reply:
                    client.recv(65536)
                    client.sendall(reply)
                    client.close()

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield f"127.0.0.1:{server.getsockname()[1]}"
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
            for client in held:
                client.close()
