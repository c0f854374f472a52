"""Encodes whole requests; only the prompt and the limit on output tokens differ from one to the next."""

import os
from collections.abc import Mapping
from enum import Enum

import msgspec

from loadgen.errors import BadWorkload
from loadgen.http.protocol import HEAD_END, Target
from loadgen.prompts.base import Request
from loadgen.workload.request_overrides import LIMITS, RequestOverrides
from loadgen.workload.workload import Workload

_SESSION = "X-Session-ID"


class _Varying(Enum):
    """A value of the body that each request has of its own."""

    LIMIT = 1
    PROMPT = 2


class RequestEncoder:
    """Encodes the requests of a workload. `secret_headers`: names and values. Raises BadWorkload."""

    def __init__(
        self,
        target: Target,
        model: str,
        workload: Workload,
        secret_headers: Mapping[str, str] | None = None,
    ) -> None:
        chat = workload.endpoint == "chat"
        route = "/chat/completions" if chat else "/completions"
        headers = _headers(target, workload.request.headers, secret_headers or {})
        self.secrets = tuple(filter(None, (target.api_key, *(secret_headers or {}).values())))
        self._sessions = _SESSION not in headers
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._head = f"POST {target.prefix}{route} HTTP/1.1\r\n{lines}".encode()
        fields = _fields(model, workload)
        self._parts = _parts(fields)
        limits = [fields.get(name) for name in LIMITS]
        self._own_limit = _Varying.LIMIT in fields.values()
        self._limit = next((value for value in limits if type(value) is int), None)

    def encode(self, request: Request) -> bytes:
        """Head and body of one request."""
        values = {_Varying.LIMIT: b"%d" % request.output_tokens, _Varying.PROMPT: request.prompt}
        body = [part if isinstance(part, bytes) else values[part] for part in self._parts]
        length = b"Content-Length: %d" % sum(map(len, body))
        session = b""
        if request.session >= 0 and self._sessions:
            session = b"X-Session-ID: %d\r\n" % request.session
        return b"".join((self._head, session, length, HEAD_END, *body))

    def asked(self, request: Request) -> int | None:
        """The most tokens that the endpoint was told to generate; None if it was told no limit."""
        return request.output_tokens if self._own_limit else self._limit


def _headers(target: Target, given: Mapping[str, str], secret: Mapping[str, str]) -> dict[str, str]:
    headers = {
        "Host": target.authority,
        "Content-Type": "application/json",
        "Accept": "text/event-stream",
        "Accept-Encoding": "identity",
    }
    if target.api_key:
        headers["Authorization"] = f"Bearer {target.api_key}"
    for name, value in (*given.items(), *secret.items()):
        same = [known for known in headers if known.lower() == name.lower()]
        headers[same[0] if same else name] = value
    return headers


def _fields(model: str, workload: Workload) -> dict[str, object]:
    """The fields of the body under their names, in order."""
    usage: dict[str, bool] = {"include_usage": True}
    if workload.continuous_usage:
        usage["continuous_usage_stats"] = True
    fields: dict[str, object] = {
        "model": model,
        "max_tokens": _Varying.LIMIT,
        "messages" if workload.endpoint == "chat" else "prompt": _Varying.PROMPT,
        "temperature": 0,
        "stream": True,
        "stream_options": usage,
    }
    if workload.ignore_eos:
        fields["ignore_eos"] = True
    changes = workload.request
    kept = {changes.rename.get(n, n): v for n, v in fields.items() if n not in changes.drop}
    return kept | changes.body


def _parts(fields: Mapping[str, object]) -> tuple[bytes | _Varying, ...]:
    """The body: constant bytes, and the places of what varies."""
    parts: list[bytes | _Varying] = []
    constant = b""
    for index, (name, value) in enumerate(fields.items()):
        constant += (b"," if index else b"{") + _json(name, name) + b":"
        if isinstance(value, _Varying):
            parts += [constant, value]
            constant = b""
        else:
            constant += _json(value, name)
    return (*parts, constant + b"}")


def _json(value: object, name: str) -> bytes:
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        raise BadWorkload(f"{name}: half of a surrogate pair can't be sent") from None


def secret_headers(request: RequestOverrides) -> dict[str, str]:
    """The headers whose values are in the environment. Raises BadWorkload."""
    found = {}
    for name, variable in request.headers_from_env.items():
        value = os.environ.get(variable, "").strip()
        if not value:
            raise BadWorkload(f"request.headers_from_env: {name}: ${variable} is not set")
        if not (value.isascii() and value.isprintable()):
            raise BadWorkload(f"request.headers_from_env: {name}: ${variable} can't be a header")
        found[name] = value
    return found
