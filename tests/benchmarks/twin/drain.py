"""A client that reads its sockets and counts events: PORT USERS SECONDS PID → events, CPU s of PID, seconds."""

import json
import selectors
import socket
import sys
import time
from pathlib import Path


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


def main() -> None:
    port, users, seconds, pid = sys.argv[1:]
    body = json.dumps(
        {"model": "m", "prompt": list(range(16)), "max_tokens": 8000, "stream": True}
    ).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    poll = selectors.DefaultSelector()
    for _ in range(int(users)):
        each = socket.create_connection(("127.0.0.1", int(port)))
        each.sendall(head.encode() + body)
        each.setblocking(False)
        poll.register(each, selectors.EVENT_READ)
    events, counted_from, spent_s = 0, 0.0, 0.0
    begin = time.monotonic()
    while True:
        for key, _ in poll.select(1.0):
            assert isinstance(key.fileobj, socket.socket)
            events += key.fileobj.recv(1 << 16).count(b"data: {")
        now = time.monotonic()
        if not counted_from and now - begin > 2.0:
            events, counted_from, spent_s = 0, now, cpu_s(int(pid))
        if counted_from and now - counted_from >= float(seconds):
            print(events, cpu_s(int(pid)) - spent_s, now - counted_from)  # noqa: T201
            return


if __name__ == "__main__":
    main()
