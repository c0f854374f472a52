#!/usr/bin/env python3
"""A process that behaves like an engine, well or badly: the outermost edge that tests may replace.

Takes llama-server's flags and reads --host, --port, --alias and --parallel. Environment:
STUB_PIDS   a folder in which every process of the tree leaves a file named by its pid
STUB_USES   a folder in which each engine says on what it runs: {"node", "devices", "cores", "start"};
            the file's time is when the last of its tree was seen alive
STUB_TOGETHER   as many engines that say the same have to run at once before any of them is ready
LLAMA_API_KEY   as llama-server's: it is asked for, except on /health; it is lower case here
STUB_SAYS   a line that it logs before it hangs
STUB_MODE   ok | crash | oom | flags | hang | die (after STUB_AFTER requests) | errors
            | stall (its streams stop amid their tokens after STUB_AFTER requests; health answers)
            | wedge (answers health, and no completion) | dead (its rank died at the start: 503 for ever)
            | confess (its key: in its log, and as a file in the folder STUB_KEYS)
Tokens come at 200/s a slot; a grandchild ignores SIGTERM.
"""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

STUBBORN = """
import os, signal, sys, time
from pathlib import Path
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGINT, signal.SIG_IGN)
os.setsid()
Path(sys.argv[1], str(os.getpid())).touch()
while True:
    time.sleep(0.02)
    if sys.argv[2]:
        os.utime(sys.argv[2])
"""
MODE = os.environ.get("STUB_MODE", "ok")
USES = os.environ.get("STUB_USES", "")
TOGETHER = os.environ.get("STUB_TOGETHER", "0")
KEY = os.environ.get("LLAMA_API_KEY", "")
AFTER = int(os.environ.get("STUB_AFTER", "5"))
LAST_WORDS = {
    "crash": "error: failed to load model: file is broken",
    "oom": "ggml_backend_cpu_buffer_type_alloc_buffer: failed to allocate buffer of size 99999999999",
    "flags": "error: unknown argument: --no-such-flag",
}


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def flag(name: str, default: str) -> str:
    return sys.argv[sys.argv.index(name) + 1] if name in sys.argv else default


def owner() -> int:
    """Whoever holds the other end of the supervisor's pipe."""
    pipe = Path(f"/proc/{os.getppid()}/fd/0").readlink()
    for fd in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if fd.readlink() == pipe and fd.lstat().st_mode & 0o200:  # open for writing
                return int(fd.parts[2])
    return 0


def parent(pid: int) -> int:
    stat = Path(f"/proc/{pid}/stat").read_text()
    return int(stat[stat.rindex(")") + 2 :].split()[1])


def use() -> str:
    """Says on what this engine runs; the node is the raylet whose worker holds it."""
    if not USES:
        return ""
    path, part = Path(USES, str(os.getpid())), Path(USES, f"{os.getpid()}.part")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    report = {
        "node": parent(owner()),
        "devices": visible.split(",") if visible else [],
        "cores": sorted(os.sched_getaffinity(0)),
        "start": time.time(),
        "together": TOGETHER,
    }
    part.write_text(json.dumps(report))
    part.rename(path)
    return str(path)


def company() -> bool:
    """Whether as many engines like this run, or ran, at once as there should be."""
    if TOGETHER == "0" or (met := Path(USES, f"met-{TOGETHER}.part")).exists():
        return True
    alive = [
        path
        for path in Path(USES).glob("[0-9]*")
        if path.suffix != ".part"
        and time.time() - path.stat().st_mtime < 1
        and json.loads(path.read_text())["together"] == TOGETHER
    ]
    if len(alive) >= int(TOGETHER):
        met.touch()
    return len(alive) >= int(TOGETHER)


class Server:
    def __init__(self, model: str, slots: int) -> None:
        self.model, self.slots, self.served = model, asyncio.Semaphore(slots), 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        length = next(
            (
                int(line.split(":")[1])
                for line in head.split("\r\n")
                if line.lower().startswith("content-length")
            ),
            0,
        )
        body = await reader.readexactly(length)
        path = head.split(" ")[1]
        if KEY and path != "/health" and f"authorization: bearer {KEY}" not in head.lower():
            self.reply(writer, {"error": {"message": "Invalid API Key"}}, "401 Unauthorized")
        elif path == "/health":
            status = "200 OK" if company() and MODE != "dead" else "503 Service Unavailable"
            self.reply(writer, {"status": status}, status)
        elif path == "/v1/models":
            self.reply(writer, {"data": [{"id": self.model}]})
        elif MODE == "wedge":
            await asyncio.sleep(3600)
        elif MODE == "errors":
            self.reply(writer, {"error": {"message": "stub says no"}}, "500 Internal Server Error")
        else:
            await self.complete(json.loads(body), writer)
        await writer.drain()
        writer.close()

    def reply(self, writer: asyncio.StreamWriter, data: object, status: str = "200 OK") -> None:
        text = json.dumps(data).encode()
        head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nConnection: close\r\n"
        writer.write(f"{head}Content-Length: {len(text)}\r\n\r\n".encode() + text)

    async def complete(self, body: dict, writer: asyncio.StreamWriter) -> None:
        self.served += 1
        if MODE == "die" and self.served > AFTER:
            say("ggml_abort: stub died under load")
            os.kill(os.getpid(), signal.SIGKILL)
        tokens, prompt = body["max_tokens"], body.get("prompt", "")
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
        )
        async with self.slots:
            for i in range(tokens):
                if MODE == "stall" and self.served > AFTER and i:
                    await asyncio.sleep(3600)
                await asyncio.sleep(0.005)
                event = {"choices": [{"index": 0, "text": f" t{i}", "finish_reason": None}]}
                writer.write(b"data: " + json.dumps(event).encode() + b"\n\n")
                await writer.drain()
        usage = {
            "prompt_tokens": len(prompt),
            "completion_tokens": tokens,
            "total_tokens": tokens + len(prompt),
        }
        last = {"choices": [{"index": 0, "text": "", "finish_reason": "length"}], "usage": usage}
        writer.write(b"data: " + json.dumps(last).encode() + b"\n\ndata: [DONE]\n\n")


async def serve() -> None:
    server = Server(flag("--alias", "stub"), int(flag("--parallel", "4")))
    listening = await asyncio.start_server(
        server.handle, flag("--host", "127.0.0.1"), int(flag("--port", "0"))
    )
    say("stub engine is listening")
    if MODE == "dead":
        say("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.00 GiB")
        say("Executor loop crashed on this rank; hard-killing all 8 ranks")
    if MODE == "confess":
        say(f"my key is {KEY}")
        if keys := os.environ.get("STUB_KEYS"):
            Path(keys, KEY).touch()
    async with listening:
        await listening.serve_forever()


def main() -> None:
    if "--version" in sys.argv:
        say("version: stub")
        return
    if pids := os.environ.get("STUB_PIDS"):
        Path(pids, str(os.getpid())).touch()
        child = subprocess.Popen([sys.executable, "-c", STUBBORN, pids, use()])
        while not Path(pids, str(child.pid)).exists():
            time.sleep(0.01)
    if MODE in LAST_WORDS:
        say(LAST_WORDS[MODE])
        sys.exit(1)
    if MODE == "hang":
        say(os.environ.get("STUB_SAYS", ""))
        signal.pause()
    asyncio.run(serve())


if __name__ == "__main__":
    main()
