"""What an endpoint serves, and which prompts it takes: asked before a load, a sentence for each fault."""

import http.client
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from loadgen.errors import EndpointErrors, EndpointUnreachable
from loadgen.http.connection_pool import connect_error, tls
from loadgen.http.protocol import Target
from loadgen.http.response_parser import first_line

ANSWER_S, COMPLETION_S = 10.0, 120.0
BODY_BYTES = 16 << 20
PIECE_BYTES = 1 << 16
REFUSED = (
    400,
    404,
    405,
    415,
    422,
    501,
)  # a route or a form of prompt that the server does not have
Route = tuple[Literal["completions", "chat"], Literal["token_ids", "text"]]
ROUTES: tuple[Route, ...] = (
    ("completions", "token_ids"),
    ("completions", "text"),
    ("chat", "text"),
)
PROMPT_IDS, PROMPT_TEXT = list(range(100, 108)), "one two three four five six seven eight"


class CertificateRefused(EndpointUnreachable):
    """The endpoint's certificate is not trusted."""


@dataclass(frozen=True, slots=True)
class ServedModel:
    """An entry of /v1/models. None: the server does not say."""

    name: str
    context_tokens: int | None = None
    vocabulary: int | None = None
    adapter: bool = False  # a LoRA of another model of the list


@dataclass(frozen=True, slots=True)
class _Reply:
    status: int
    location: str
    html: bool
    body: bytes


def served_models(
    target: Target, headers: Mapping[str, str] | None = None
) -> tuple[ServedModel, ...]:
    """The models that the endpoint lists, one at least. Raises EndpointUnreachable or EndpointErrors."""
    reply = _ask(target, "/models", dict(headers or {}))
    url = _url(target, "/models")
    if reply.status != 200:
        raise EndpointErrors(f"{url}: HTTP {reply.status}: {first_line(reply.body)}", reply.status)
    try:
        entries = msgspec.json.decode(reply.body)["data"]
        found = tuple(_model(entry) for entry in entries)
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError):
        line = f"{url}: the answer is no list of models: {first_line(reply.body)}"
        raise EndpointErrors(line, reply.status) from None
    if not found:
        raise EndpointErrors(f"{url}: the list of models is empty: is one loaded?", reply.status)
    return found


def accepted_route(target: Target, model: str, headers: Mapping[str, str] | None = None) -> Route:
    """The first of ROUTES on which the endpoint completes a prompt of eight tokens.

    Raises EndpointUnreachable or EndpointErrors.
    """
    said = EndpointErrors("")
    for route in ROUTES:
        path, body = _completion(route, model)
        reply = _ask(target, path, dict(headers or {}), msgspec.json.encode(body))
        if reply.status == 200:
            return route
        line = f"{_url(target, path)}: HTTP {reply.status}: {first_line(reply.body)}"
        said = EndpointErrors(line, reply.status)
        if reply.status not in REFUSED:
            break
    raise said


def _completion(route: Route, model: str) -> tuple[str, dict[str, Any]]:
    endpoint, prompt = route
    body: dict[str, Any] = {"model": model, "max_tokens": 1, "temperature": 0}
    if endpoint == "chat":
        return "/chat/completions", {
            **body,
            "messages": [{"role": "user", "content": PROMPT_TEXT}],
        }
    return "/completions", {**body, "prompt": PROMPT_IDS if prompt == "token_ids" else PROMPT_TEXT}


def _model(entry: Any) -> ServedModel:
    meta = entry.get("meta")
    meta = meta if isinstance(meta, dict) else {}  # of llama.cpp
    context = entry.get("max_model_len", meta.get("n_ctx"))  # the former of vLLM and SGLang
    return ServedModel(
        str(entry["id"]),
        _positive(context),
        _positive(meta.get("n_vocab")),
        adapter=bool(entry.get("parent")),
    )


def _positive(value: Any) -> int | None:
    return value if isinstance(value, int) and 0 < value <= 10**9 else None


def _url(target: Target, path: str) -> str:
    return f"{target.scheme}://{target.authority}{target.prefix}{path}"


def _ask(target: Target, path: str, headers: dict[str, str], body: bytes | None = None) -> _Reply:
    """One request. Raises EndpointUnreachable, or EndpointErrors for an answer of another kind of server."""
    timeout_s = ANSWER_S if body is None else COMPLETION_S
    key = {"Authorization": f"Bearer {target.api_key}"} if target.api_key else {}
    kind = {} if body is None else {"Content-Type": "application/json"}
    where, context = (target.host, target.port), tls(target)
    connection = (
        http.client.HTTPConnection(*where, timeout=ANSWER_S)
        if context is None
        else http.client.HTTPSConnection(*where, timeout=ANSWER_S, context=context)
    )
    try:
        _connect(connection, target)
        connection.sock.settimeout(timeout_s)
        try:
            method = "GET" if body is None else "POST"
            connection.request(method, f"{target.prefix}{path}", body, key | kind | headers)
            answer = connection.getresponse()
            reply = _Reply(
                answer.status,
                answer.headers.get("Location", ""),
                "html" in answer.headers.get("Content-Type", "").lower(),
                _body(answer, timeout_s),
            )
        except TimeoutError:
            line = f"{_url(target, path)}: no answer within {timeout_s:g} s"
            raise EndpointUnreachable(line) from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            line = f"{target.authority} accepts connections, and does not answer in HTTP"
            line += ": does it expect https://?" if target.scheme == "http" else f": {error}"
            raise EndpointUnreachable(line) from error
    finally:
        connection.close()
    _check_kind(target, path, reply)
    return reply


def _connect(connection: http.client.HTTPConnection, target: Target) -> None:
    try:
        connection.connect()
    except ssl.SSLCertVerificationError as error:
        why = error.verify_message.rstrip(".").lower()
        line = f"can't connect to {target.authority}: its certificate is not trusted: {why}"
        raise CertificateRefused(line) from error
    except ssl.SSLError as error:
        line = (
            f"can't connect to {target.authority}: {connect_error(error)}: does it expect http://?"
        )
        raise EndpointUnreachable(line) from error
    except TimeoutError as error:
        line = f"can't connect to {target.authority}: no answer within {ANSWER_S:g} s"
        if connection.sock is not None:  # connected, and waiting for the handshake
            line = f"{target.authority}: no TLS within {ANSWER_S:g} s: does it expect http://?"
        raise EndpointUnreachable(line) from error
    except OSError as error:
        line = f"can't connect to {target.authority}: {connect_error(error)}"
        raise EndpointUnreachable(line) from error


def _body(answer: http.client.HTTPResponse, timeout_s: float) -> bytes:
    """All of it, in time. Raises TimeoutError, or HTTPException for one without an end."""
    pieces, size, deadline = list[bytes](), 0, time.monotonic() + timeout_s
    while piece := answer.read1(PIECE_BYTES):
        pieces.append(piece)
        size += len(piece)
        if time.monotonic() > deadline:
            raise TimeoutError
        if size > BODY_BYTES:
            raise http.client.HTTPException(f"its answer has more than {BODY_BYTES >> 20} MiB")
    return b"".join(pieces)


def _check_kind(target: Target, path: str, reply: _Reply) -> None:
    """Raises EndpointErrors for a redirect, a refused key and a web page."""
    url = _url(target, path)
    if 300 <= reply.status < 400:
        to = reply.location.removesuffix(path) or "nowhere"
        line = f"{url}: HTTP {reply.status}: it redirects, and a load follows no redirect: use {to}"
        raise EndpointErrors(line, reply.status)
    if reply.status in (401, 403):
        what = "refuses this API key" if target.api_key else "asks for an API key"
        raise EndpointErrors(f"{url}: HTTP {reply.status}: it {what}", reply.status)
    if reply.html or reply.body.lstrip()[:1] == b"<":
        line = f"{url}: HTTP {reply.status}: a web page, not the JSON of an OpenAI-compatible API"
        raise EndpointErrors(line, reply.status)
