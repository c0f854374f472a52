#!/usr/bin/env python3
"""A container runtime at the process edge: the client of docker, and a daemon that holds its containers.

    fake_runtime.py daemon FOLDER           runs containers as processes of its own
    FOLDER/bin/docker run|ps|kill|…         the client; its death does not end a container

A container is a process without namespaces: it sees the node's files, and the variables of `--env` alone.
As with docker, the end of its first process ends it whole. FOLDER holds containers/ID/ (config.json, pid,
exit, log), images, calls.jsonl (the arguments of each call), and mode: down | hang | hang WORD (one
command) | denied | nodriver | conflict | full | oom | missing (a pull finds no image) | slow (a pull that
does not end). Standard library only.
"""

import contextlib
import ctypes
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

FLAGS = {
    "--init",
    "--rm",
    "--force",
    "-f",
    "--all",
    "-a",
    "--quiet",
    "-q",
    "-aq",
    "--no-trunc",
    "--volumes",
}
KEY = "FAKE_CONTAINER"
DIGEST = "sha256:" + "1d" * 32
ERRORS = {
    "down": "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
    "denied": "permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock",
}
RUN_ERRORS = {
    "nodriver": 'could not select device driver "" with capabilities: [[gpu]]',
    "conflict": 'Conflict. The container name "/x" is already in use by container "1d". You have to remove it.',
    "full": "failed to register layer: write /usr/lib/x.so: no space left on device",
}


def fail(text: str, code: int) -> None:
    sys.stderr.write(f"{text}\n")
    sys.exit(code)


def write(path: Path, text: str) -> None:
    part = path.with_name(path.name + ".part")
    part.write_text(text)
    part.rename(path)


def of_container(key: str) -> list[int]:
    """The processes of a container, by the variable that they inherited."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"{KEY}={key}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return found


def kill_all(key: str) -> None:
    while pids := of_container(key):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


def daemon(folder: Path) -> None:
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # a subreaper: what a container leaves is ours
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(folder / "socket"))
    server.listen(16)

    def hold(key: str, environ: dict[str, str]) -> None:
        home = folder / "containers" / key
        config = json.loads((home / "config.json").read_text())
        with (home / "log").open("wb") as log:
            try:
                child = subprocess.Popen(
                    config["argv"],
                    env={"PATH": os.environ["PATH"], **environ, KEY: key},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            except OSError:
                word = config["argv"][0]
                log.write(f'exec: "{word}": executable file not found in $PATH\n'.encode())
                write(home / "exit", "127")
                return
        write(home / "pid", str(child.pid))
        code = child.wait()
        kill_all(key)
        write(home / "exit", str(code if code >= 0 else 128 - code))

    while True:
        connection, _ = server.accept()
        with connection, connection.makefile("rw") as stream:
            asked = json.loads(stream.readline())
            threading.Thread(target=hold, args=(asked["id"], asked["environ"]), daemon=True).start()
            stream.write("started\n")


class Client:
    def __init__(self, folder: Path, words: list[str]) -> None:
        self.folder, self.words = folder, words
        mode = folder / "mode"
        self.mode = mode.read_text().strip() if mode.exists() else ""

    def run_command(self) -> int:
        with (self.folder / "calls.jsonl").open("a") as calls:
            calls.write(json.dumps(self.words) + "\n")
        command = self.words[0]
        if self.mode in {"hang", f"hang {command}"}:
            while True:
                signal.pause()
        if self.mode in ERRORS:
            prefix = "docker: " if command == "run" else ""
            fail(prefix + ERRORS[self.mode], 125 if command == "run" else 1)
        if command == "image":
            return self.image(self.words[2])
        return int(getattr(self, command)())

    def options(self) -> tuple[dict[str, list[str]], list[str]]:
        given: dict[str, list[str]] = {}
        words = self.words[1:]
        while words and words[0].startswith("-"):
            word = words.pop(0)
            given.setdefault(word, []).append("" if word in FLAGS else words.pop(0))
        return given, words

    def homes(self) -> list[Path]:
        return sorted((self.folder / "containers").glob("[!.]*"))

    def config(self, home: Path) -> dict[str, object]:
        return json.loads((home / "config.json").read_text())

    def version(self) -> int:
        sys.stdout.write("28.2.2\n" if "--format" in self.words else "Server: fake\n")
        return 0

    def info(self) -> int:
        sys.stdout.write(
            json.dumps({"Runtimes": {"nvidia": {}, "runc": {}}, "SecurityOptions": []})
        )
        return 0

    def image(self, name: str) -> int:
        name = self.words[-1]
        images = json.loads((self.folder / "images").read_text())
        if name not in images:
            sys.stdout.write("[]\n")
            fail(f"Error response from daemon: No such image: {name}", 1)
        digest = [f"{name.partition(':')[0]}@{DIGEST}"] if images[name] else []
        sys.stdout.write(json.dumps([{"Id": DIGEST, "RepoDigests": digest}]))
        return 0

    def pull(self) -> int:
        name = self.words[-1]
        while self.mode == "slow":
            signal.pause()
        if self.mode == "missing":
            fail(
                f"Error response from daemon: pull access denied for {name}, repository does not exist",
                1,
            )
        images = json.loads((self.folder / "images").read_text())
        write(self.folder / "images", json.dumps({**images, name: True}))
        sys.stdout.write(f"Status: Downloaded newer image for {name}\n")
        return 0

    def ps(self) -> int:
        given, _ = self.options()
        filters = [each.removeprefix("label=") for each in given.get("--filter", [])]
        for home in self.homes():
            labels = self.config(home)["labels"]
            pairs = {f"{name}={text}" for name, text in labels.items()}  # type: ignore[attr-defined]
            if all(each in pairs or each in labels for each in filters):  # type: ignore[operator]
                sys.stdout.write(f"{home.name}\n")
        return 0

    def inspect(self) -> int:
        found = []
        for key in self.words[3:]:
            home = self.folder / "containers" / key
            if not home.exists():
                continue
            ended, pid = home / "exit", home / "pid"
            running = pid.exists() and not ended.exists()
            state = {
                "Status": "running" if running else "exited" if ended.exists() else "created",
                "Running": running,
                "Pid": int(pid.read_text()) if running else 0,
                "ExitCode": int(ended.read_text()) if ended.exists() else 0,
                "OOMKilled": self.mode == "oom" and ended.exists(),
                "Error": "",
            }
            config = self.config(home)
            found.append({"Id": key, "State": state, "Config": {"Labels": config["labels"]}})
        sys.stdout.write(json.dumps(found))
        return 0 if len(found) == len(self.words[3:]) else 1

    def kill(self) -> int:
        for key in self.words[1:]:
            if not (self.folder / "containers" / key / "pid").exists():
                fail(f"Error response from daemon: No such container: {key}", 1)
            kill_all(key)
        return 0

    def rm(self) -> int:
        _, ids = self.options()
        for key in ids:
            home = self.folder / "containers" / key
            kill_all(key)
            with contextlib.suppress(OSError):
                home.rename(home.with_name(f".{key}"))
        return 0

    def run(self) -> int:
        given, (_image, *rest) = self.options()
        if self.mode in RUN_ERRORS:
            fail(f"docker: Error response from daemon: {RUN_ERRORS[self.mode]}", 125)
        key = secrets.token_hex(32)
        home = self.folder / "containers" / key
        part = self.folder / "containers" / f".part-{key}"
        part.mkdir()
        argv = [*given.get("--entrypoint", []), *rest]
        labels = dict(each.split("=", 1) for each in given.get("--label", []))
        names = given.get("--env", [])
        (part / "config.json").write_text(
            json.dumps({"argv": argv, "labels": labels, "names": names, "given": given})
        )
        part.rename(home)
        for cidfile in given.get("--cidfile", []):
            with Path(cidfile).open("x") as file:
                file.write(key)
        environ = {name: os.environ[name] for name in names if name in os.environ}
        with socket.socket(socket.AF_UNIX) as link:
            link.connect(str(self.folder / "socket"))
            with link.makefile("rw") as stream:
                stream.write(json.dumps({"id": key, "environ": environ}) + "\n")
                stream.flush()
                stream.readline()
        return self.attached(home)

    def attached(self, home: Path) -> int:
        """Passes signals on, and prints what the container prints, until it ends."""

        def passed(number: int, _: object) -> None:
            with contextlib.suppress(OSError, ValueError):
                os.kill(int((home / "pid").read_text()), number)

        signal.signal(signal.SIGTERM, passed)
        log, ended, at = home / "log", home / "exit", 0
        while True:
            over = ended.exists() or not home.exists()
            if log.exists():
                with log.open("rb") as file:
                    file.seek(at)
                    text = file.read()
                at += len(text)
                sys.stdout.buffer.write(text)
                sys.stdout.flush()
            if over:
                return int(ended.read_text()) if ended.exists() else 137
            time.sleep(0.02)


if __name__ == "__main__":
    if sys.argv[1] == "daemon":
        daemon(Path(sys.argv[2]))
    sys.exit(Client(Path(__file__).parent.parent, sys.argv[1:]).run_command())
