"""Checks of a running server: is it ready, and is it the process that we started?"""

import contextlib
import http.client
import json
import os
import socket
import ssl
import time
import urllib.parse
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

LISTEN = "0A"
LOOPBACK = "127.0.0.1"
TIMEOUT_S = 5.0
LARGEST_BYTES = 16 << 20  # a metrics page of vLLM has 0.2 MB


def free_port(host: str = LOOPBACK) -> int:
    """A port that is free at this moment; another process may take it before it is used."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


class AnswerTooLong(OSError):
    """An answer has more than LARGEST_BYTES, or is not whole in time."""


def get(
    url: str,
    timeout_s: float = TIMEOUT_S,
    *,
    headers: Mapping[str, str] | None = None,
    trust: ssl.SSLContext | None = None,
    body: bytes | None = None,
) -> tuple[int, bytes] | None:
    """As `ask`; None when nothing answers, or no whole answer."""
    try:
        return ask(url, timeout_s, headers=headers, trust=trust, body=body)
    except (OSError, http.client.HTTPException):
        return None


def ask(
    url: str,
    timeout_s: float = TIMEOUT_S,
    *,
    headers: Mapping[str, str] | None = None,
    trust: ssl.SSLContext | None = None,
    body: bytes | None = None,
) -> tuple[int, bytes]:
    """Status and body. Raises OSError, AnswerTooLong among them, and HTTPException.

    Proxies of the environment are not used. `trust`: the certificates that https accepts; those of the system
    by default. `body`: is posted.
    """
    parts, until_s = urllib.parse.urlsplit(url), time.monotonic() + timeout_s
    host, port = parts.hostname or "", parts.port
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        connection = http.client.HTTPSConnection(host, port, timeout=timeout_s, context=trust)
    else:
        connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
    try:
        connection.request(
            "GET" if body is None else "POST",
            parts.path or "/",
            body,
            {"Connection": "close", **(headers or {})},
        )
        response = connection.getresponse()
        read = bytearray()
        while part := response.read1(1 << 16):
            read += part
            if len(read) > LARGEST_BYTES or time.monotonic() > until_s:
                raise AnswerTooLong(f"longer than can be read in {timeout_s:g} s")
        return response.status, bytes(read)
    finally:
        connection.close()


def get_json(url: str, api_key: str | None = None) -> Any:
    """The body of a 200, parsed; None otherwise."""
    answer = get(url, headers=bearer(api_key))
    if answer is None or answer[0] != 200:
        return None
    try:
        return json.loads(answer[1])
    except ValueError:
        return None


def bearer(api_key: str | None) -> dict[str, str]:
    """The header that carries an API key; none without a key."""
    return {"Authorization": f"Bearer {api_key}"} if api_key else {}


def completes(base_url: str, model: str, api_key: str | None, timeout_s: float) -> int | None:
    """The status of a completion of one token; None if there is no answer in time."""
    body = json.dumps({"model": model, "prompt": "1", "max_tokens": 1}).encode()
    headers = {"Content-Type": "application/json", **bearer(api_key)}
    answer = get(f"{base_url}/v1/completions", timeout_s, headers=headers, body=body)
    return None if answer is None else answer[0]


def posted(url: str, api_key: str | None = None, timeout_s: float = TIMEOUT_S) -> int | None:
    """The status of an empty POST; None if there is no answer in time."""
    answer = get(url, timeout_s, headers=bearer(api_key), body=b"")
    return None if answer is None else answer[0]


def refuses(url: str) -> bool:
    """Whether the URL asks for an API key."""
    answer = get(url)
    return answer is not None and answer[0] in (401, 403)


def healthy(url: str, api_key: str | None = None) -> bool:
    """Whether the URL answers 200."""
    answer = get(url, headers=bearer(api_key))
    return answer is not None and answer[0] == 200


def model_names(base_url: str, api_key: str | None = None) -> list[str]:
    """The ids under /v1/models; empty if there is no answer."""
    data = get_json(f"{base_url}/v1/models", api_key)
    entries = data.get("data", []) if isinstance(data, dict) else []
    return [str(entry["id"]) for entry in entries if isinstance(entry, dict) and "id" in entry]


def listening(port: int, host: str = LOOPBACK) -> set[str]:
    """The sockets that accept connections to this address and port, as /proc names them."""
    return {name for name, _ in _listeners(port, host)}


def _listeners(port: int, host: str) -> set[tuple[str, int]]:
    """Socket and user of each."""
    found, addresses = set(), _accepting(host)
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                address, _, hex_port = fields[1].rpartition(":")
                if fields[3] == LISTEN and int(hex_port, 16) == port and address in addresses:
                    found.add((f"socket:[{fields[9]}]", int(fields[7])))
    return found


def _accepting(host: str) -> set[str]:
    """The address, those that include it, and for loopback that of the other family, as /proc writes them."""
    several = {host, "0.0.0.0", "::"} | ({"::1"} if host == LOOPBACK else set())
    if ":" not in host:
        several.add(f"::ffff:{host}")
    return {_hexadecimal(each) for each in several}


def _hexadecimal(address: str) -> str:
    packed = socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
    return b"".join(packed[i : i + 4][::-1] for i in range(0, len(packed), 4)).hex().upper()


def holders(pids: Iterable[int], port: int, host: str = LOOPBACK) -> frozenset[int]:
    """Those of `pids` that listen on `port`; none if any other process does too.

    Excludes a stale server: it would have to hold a socket of our engine.
    """
    wanted = listening(port, host)
    held = {pid: wanted & _sockets(pid) for pid in pids} if wanted else {}
    if wanted - set().union(*held.values()):
        return frozenset()
    return frozenset(pid for pid, sockets in held.items() if sockets)


def listens_as(uid: int, port: int, host: str = LOOPBACK) -> bool:
    """Whether processes of this user, and of no other, listen on the address and port."""
    owners = {owner for _, owner in _listeners(port, host)}
    return owners == {uid}


def taken(port: int) -> bool:
    """Whether any process listens on the port."""
    return bool(listening(port))


def _sockets(pid: int) -> set[str]:
    found = set()
    with contextlib.suppress(OSError):
        for entry in os.scandir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                found.add(str(Path(entry).readlink()))
    return found
