"""Checks of a running server: is it ready, and is it the process that we started?"""

import contextlib
import http.client
import json
import os
import socket
import ssl
import urllib.parse
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

LISTEN = "0A"
# 127.0.0.1, any IPv4, any IPv6, ::1 and ::ffff:127.0.0.1 in /proc's byte order.
LOOPBACK = {
    "0100007F",
    "0" * 8,
    "0" * 32,
    "0" * 24 + "01000000",
    "0" * 16 + "FFFF00000100007F",
}
TIMEOUT_S = 5.0


def free_port(host: str = "127.0.0.1") -> int:
    """A port that is free at this moment; another process may take it before it is used."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def get(
    url: str,
    timeout_s: float = TIMEOUT_S,
    *,
    headers: Mapping[str, str] | None = None,
    trust: ssl.SSLContext | None = None,
) -> tuple[int, bytes] | None:
    """Status and body; None when nothing answers. Proxies of the environment are not used.

    `trust`: the certificates that https accepts; those of the system by default.
    """
    parts = urllib.parse.urlsplit(url)
    host, port = parts.hostname or "", parts.port
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        connection = http.client.HTTPSConnection(host, port, timeout=timeout_s, context=trust)
    else:
        connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
    try:
        connection.request(
            "GET", parts.path or "/", headers={"Connection": "close", **(headers or {})}
        )
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def get_json(url: str) -> Any:
    """The body of a 200, parsed; None otherwise."""
    answer = get(url)
    if answer is None or answer[0] != 200:
        return None
    try:
        return json.loads(answer[1])
    except ValueError:
        return None


def healthy(url: str) -> bool:
    """Whether the URL answers 200."""
    answer = get(url)
    return answer is not None and answer[0] == 200


def model_names(base_url: str) -> list[str]:
    """The ids under /v1/models; empty if there is no answer."""
    data = get_json(f"{base_url}/v1/models")
    entries = data.get("data", []) if isinstance(data, dict) else []
    return [str(entry["id"]) for entry in entries if isinstance(entry, dict) and "id" in entry]


def listening(port: int) -> set[str]:
    """The sockets that accept loopback connections to this port, as /proc names them."""
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                address, _, hex_port = fields[1].rpartition(":")
                if fields[3] == LISTEN and int(hex_port, 16) == port and address in LOOPBACK:
                    found.add(f"socket:[{fields[9]}]")
    return found


def holders(pids: Iterable[int], port: int) -> frozenset[int]:
    """Those of `pids` that listen on `port`; none if any other process does too.

    Excludes a stale server: it would have to hold a socket of our engine.
    """
    wanted = listening(port)
    held = {pid: wanted & _sockets(pid) for pid in pids} if wanted else {}
    if wanted - set().union(*held.values()):
        return frozenset()
    return frozenset(pid for pid, sockets in held.items() if sockets)


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
