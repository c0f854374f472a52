"""The product as a person drives it: a process of its own, in a folder and a home of its own."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

REPO = Path(__file__).parents[2]
TIMEOUT_S = 240
# One thread for linear algebra, so that sums are added up in one order.
_ENVIRONMENT = {
    "PYTHONPATH": str(REPO),
    "PATH": os.environ.get("PATH", os.defpath),
    "LANG": "C.UTF-8",
    "TERM": "dumb",
    "COLUMNS": "300",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}


@dataclass(frozen=True, slots=True)
class Said:
    code: int
    output: str  # stdout, then stderr


class Product:
    """`home`: where it looks for engines, models and settings; nothing is there."""

    def __init__(self, home: Path) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self._home = home

    def run(self, words: Sequence[str], folder: Path, *, one_core: bool = False) -> Said:
        """`python -m` with these words. `one_core`: where a command takes as many as it may."""
        core = min(os.sched_getaffinity(0))
        home = {"HOME": str(self._home), "WATTFRONT_HOME": str(self._home / "wattfront")}
        done = subprocess.run(
            [sys.executable, "-m", *words],
            cwd=folder,
            env={**_ENVIRONMENT, **home},
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
            preexec_fn=partial(os.sched_setaffinity, 0, {core}) if one_core else None,
        )
        return Said(done.returncode, done.stdout + done.stderr)


class _Endpoint(BaseHTTPRequestHandler):
    """Answers each request at once, a token an event."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer("application/json", json.dumps({"data": [{"id": "fake"}]}))

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        count = asked["max_tokens"]
        usage = {"prompt_tokens": len(asked["prompt"]), "completion_tokens": count}
        ends = [None] * (count - 1) + ["length"]
        events: list[Any] = [{"choices": [{"text": " a", "finish_reason": end}]} for end in ends]
        events.append({"choices": [], "usage": usage})
        lines = [f"data: {json.dumps(event)}\n\n" for event in events]
        self._answer("text/event-stream", "".join((*lines, "data: [DONE]\n\n")))

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Says nothing."""

    def _answer(self, kind: str, body: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())


@contextmanager
def endpoint() -> Iterator[str]:
    """The URL of an OpenAI-compatible server of this process."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Endpoint)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
