"""A hub on loopback: listings, files with ranges by a second host that stores them, gates, tokens, cuts."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT, OLDER = "c" * 40, "a" * 40
TOKEN = "hf_a-secret-of-nobody"
LARGE = (".safetensors", ".bin")


def entry(name: str, content: bytes) -> dict[str, Any]:
    """Of a listing, as the hub writes it."""
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    made: dict[str, Any] = {"rfilename": name, "size": len(content), "blobId": blob}
    if name.endswith(LARGE):
        digest = hashlib.sha256(content).hexdigest()
        made |= {"blobId": "b" * 40}
        made["lfs"] = {"sha256": digest, "size": len(content), "pointerSize": 134}
    return made


@dataclass
class FakeHub:
    """`models`: id → revision → files. `cuts`: bytes after which the next large files end. `asked`: paths."""

    models: dict[str, dict[str, dict[str, bytes]]] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    token: str = ""
    cuts: list[int] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)  # of the large files that were asked for
    ranges: bool = True
    broken: int = 0  # listings that are answered by 503
    hold: threading.Event | None = None  # files wait for it
    asked: list[str] = field(default_factory=list)
    stored_with_token: list[str] = field(default_factory=list)
    url: str = ""
    store: str = ""

    def add(self, model: str, files: dict[str, bytes], commit: str = COMMIT) -> None:
        revisions = self.models.setdefault(model, {})
        revisions |= {"main": files, commit: files}

    def files(self) -> list[str]:
        return [path for path in self.asked if "/resolve/" in path]


@contextmanager
def hub() -> Iterator[FakeHub]:
    state = FakeHub()
    api = _Server(state)
    store = _Server(state, stores=True)
    state.url = f"http://127.0.0.1:{api.server_port}"
    state.store = f"http://127.0.0.1:{store.server_port}"
    servers = (api, store)
    threads = [threading.Thread(target=each.serve_forever, args=(0.05,)) for each in servers]
    for thread in threads:
        thread.start()
    try:
        yield state
    finally:
        for server, thread in zip(servers, threads, strict=True):
            server.shutdown()
            thread.join()
            server.server_close()


class _Server(ThreadingHTTPServer):
    """`stores`: it has the contents of large files, and no listing."""

    def __init__(self, state: FakeHub, *, stores: bool = False) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.state, self.stores = state, stores


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if self.server.stores:
            self.server.state.stored_with_token += [path] if "Authorization" in self.headers else []
            self._file(path)
            return
        self.server.state.asked.append(path)
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+?)(?:/revision/(.+)|/(refs))?", path):
            self._listing(*match.groups())
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._resolve(*match.groups())
        else:
            self._refuse(404, "RepoNotFound")

    def _listing(self, model: str, revision: str | None, refs: str | None) -> None:
        if self.server.state.broken:
            self.server.state.broken -= 1
            self._refuse(503, "")
        elif self._may(model):
            revisions = self.server.state.models[model]
            if refs:
                names = [{"name": each} for each in revisions if len(each) != 40]
                self._json({"branches": names, "tags": []})
            elif (revision or "main") not in revisions:
                self._refuse(404, "RevisionNotFound")
            else:
                files = revisions[revision or "main"]
                sha = next(k for k, v in revisions.items() if v is files and len(k) == 40)
                siblings = [entry(name, content) for name, content in files.items()]
                self._json({"id": model, "sha": sha, "siblings": siblings, "private": False})

    def _may(self, model: str) -> bool:
        given = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if given and given != self.server.state.token:
            self._refuse(401, "", "Invalid credentials in Authorization header")
        elif model not in self.server.state.models:
            self._refuse(404 if given else 401, "RepoNotFound")
        else:
            return True
        return False

    def _resolve(self, model: str, revision: str, name: str) -> None:
        given = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if model in self.server.state.gated:
            self._refuse(403 if given else 401, "GatedRepo")
        elif name not in self.server.state.models[model].get(revision, {}):
            self._refuse(404, "EntryNotFound")
        elif name.endswith(LARGE):
            self.send_response(302)
            self.send_header("Location", f"{self.server.state.store}/{model}/{revision}/{name}")
            self.send_header("X-Linked-Etag", entry(name, b"")["lfs"]["sha256"])
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            self._file(f"/{model}/{revision}/{name}")

    def _file(self, path: str) -> None:
        _, org, model, revision, name = path.split("/", 4)
        if self.server.state.hold is not None:
            self.server.state.hold.wait()
        content = self.server.state.models[f"{org}/{model}"][revision][name]
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        start = start if self.server.state.ranges else 0
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        end = len(content)
        if self.server.stores:
            self.server.state.starts.append(start)
            if self.server.state.cuts:
                end = start + self.server.state.cuts.pop(0)
        self.wfile.write(content[start:end])
        self.close_connection = True

    def _json(self, data: object) -> None:
        text = json.dumps(data).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _refuse(self, status: int, code: str, message: str = "") -> None:
        self.send_response(status)
        for name, value in (("X-Error-Code", code), ("X-Error-Message", message)):
            if value:
                self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()
