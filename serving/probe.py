"""Questions to a running server: is it ready, and is it the one that we started?"""

import contextlib
import http.client
import json
import os
import socket
import urllib.parse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

LISTEN = "0A"
TIMEOUT_S = 5.0


def free_port(host: str = "127.0.0.1") -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def get(url: str, timeout_s: float = TIMEOUT_S) -> tuple[int, bytes] | None:
    """Status and body; None when nothing answers. Past every proxy: engines are asked directly."""
    parts = urllib.parse.urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=timeout_s)
    try:
        connection.request("GET", parts.path or "/", headers={"Connection": "close"})
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
    answer = get(url)
    return answer is not None and answer[0] == 200


def model_names(base_url: str) -> list[str]:
    """The ids under /v1/models; empty if it can't be asked."""
    data = get_json(f"{base_url}/v1/models")
    entries = data.get("data", []) if isinstance(data, dict) else []
    return [str(entry["id"]) for entry in entries if isinstance(entry, dict) and "id" in entry]


def listens(pids: Iterable[int], port: int) -> bool:
    """Whether one of these processes holds the listening socket of `port`: proof against a stale server."""
    wanted = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    return bool(wanted) and any(wanted & _sockets(pid) for pid in pids)


def taken(port: int) -> bool:
    return bool(_listening_inodes(port))


def _listening_inodes(port: int) -> set[str]:
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == LISTEN and int(fields[1].rsplit(":", 1)[1], 16) == port:
                    inodes.add(fields[9])
    return inodes


def _sockets(pid: int) -> set[str]:
    found = set()
    with contextlib.suppress(OSError):
        for entry in os.scandir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                found.add(os.readlink(entry.path))
    return found
