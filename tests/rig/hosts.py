"""Hosts with addresses of their own on one machine, on a bridge that leads nowhere else.

A host is a network, mount, PID and UTS namespace under a holder process. They have no names: once the holders
are dead the kernel removes interfaces, mounts and processes, and the holders die with the test process.
"""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

REPO = Path(__file__).parents[2]
HOLD = "echo ready; exec >&-; while :; do sleep 3600 & wait $!; done"  # as PID 1 it reaps orphans
NEEDED = ("unshare", "nsenter", "ip", "mount", "hostname")
_PR_SET_PDEATHSIG = 1


def unavailable() -> str:
    """Why this machine can't have a rig; empty if it can."""
    if os.geteuid() != 0:
        return "the rig of network namespaces needs root"
    if missing := [name for name in NEEDED if shutil.which(name) is None]:
        return f"the rig of network namespaces needs {', '.join(missing)}"
    tried = subprocess.run(["unshare", *_NAMESPACES, "true"], capture_output=True, check=False)
    return "" if tried.returncode == 0 else "this machine permits no new namespaces"


_NAMESPACES = ("--net", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc")


@dataclass
class Host:
    """One of the rig's hosts. `own`: a folder of the same path on each host, with other contents."""

    name: str
    address: str
    own: Path
    holder: "subprocess.Popen[str]"
    pid: int  # of its first process; all others die with it
    flags: tuple[str, ...] = ()
    hub: int = 0
    env: dict[str, str] = field(default_factory=dict)

    def environment(self, env: Mapping[str, str] | None = None) -> dict[str, str]:
        """That of a login on this host: a home and a temporary folder of its own."""
        own = {"HOME": str(self.own / "home"), "TMPDIR": str(self.own / "tmp")}
        base = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
        return {**base, **own, **self.env, **(env or {})}

    def start(self, arguments: Sequence[str], **options: Any) -> "subprocess.Popen[str]":
        """A process on this host. `cwd`: a folder there, the root if not given."""
        env, folder = self.environment(options.pop("env", None)), options.pop("cwd", "/")
        command = [
            "nsenter",
            *_entering(self.pid),
            *self.flags,
            f"--wdns={folder}",
            "--",
            *arguments,
        ]
        return subprocess.Popen(command, env=env, text=True, **options)

    def run(self, arguments: Sequence[str], *, timeout_s: float = 120, **options: Any) -> str:
        """The output of a command here. Raises if it fails."""
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        with self.start(arguments, **pipes, **options) as process:
            output, _ = process.communicate(timeout=timeout_s)
        assert process.returncode == 0, f"{arguments}: {process.returncode}\n{output}"
        return str(output)

    def hide(self, folder: Path) -> None:
        """Others see what is in the folder; this host sees it empty."""
        self.run(["mount", "-t", "tmpfs", "tmpfs", str(folder)])

    def cut_off(self) -> None:
        """Takes its link down."""
        _in_net(self.hub, "ip", "link", "set", "dev", self.name, "down")

    def reconnect(self) -> None:
        """Takes its link up again."""
        _in_net(self.hub, "ip", "link", "set", "dev", self.name, "up")

    def lose(self) -> None:
        """Power off: its link goes down, and all its processes die."""
        self.cut_off()
        os.kill(self.pid, signal.SIGKILL)
        self.holder.wait(timeout=60)


@contextmanager
def hosts(*names: str, ahead_s: Mapping[str, int] | None = None) -> Iterator[list[Host]]:
    """Hosts 10.77.0.1, 10.77.0.2 …; `ahead_s`: by how much the monotonic clock of a host is ahead."""
    with ExitStack() as stack:
        own = Path(tempfile.mkdtemp(prefix="wfr-"))  # short: Ray puts sockets below it
        stack.callback(shutil.rmtree, own, ignore_errors=True)
        hub = stack.enter_context(_held(_NAMESPACES, HOLD))[1]
        _in_net(hub, "ip", "link", "add", "name", "bridge", "type", "bridge")
        _in_net(hub, "ip", "link", "set", "dev", "bridge", "up")
        yield [
            _join(stack, hub, own, name, f"10.77.0.{i}", (ahead_s or {}).get(name, 0))
            for i, name in enumerate(names, 1)
        ]


def _join(stack: ExitStack, hub: int, own: Path, name: str, address: str, ahead_s: int) -> Host:
    clock = ["--time", "--monotonic", str(ahead_s)] if ahead_s else []
    setup = (
        f"hostname {name}; ip link set lo up; mount -t tmpfs tmpfs /dev/shm; "
        f"mount -t tmpfs tmpfs {own}; mkdir {own}/home {own}/tmp; {HOLD}"
    )
    holder, pid = stack.enter_context(_held([*_NAMESPACES, *clock], setup))
    _in_net(
        hub,
        "ip",
        "link",
        "add",
        "name",
        name,
        "type",
        "veth",
        "peer",
        "name",
        "eth0",
        "netns",
        str(pid),
    )
    _in_net(hub, "ip", "link", "set", "dev", name, "master", "bridge", "up")
    _in_net(pid, "ip", "addr", "add", f"{address}/24", "dev", "eth0")
    _in_net(pid, "ip", "link", "set", "dev", "eth0", "up")
    return Host(name, address, own, holder, pid, ("--time",) if ahead_s else (), hub)


@contextmanager
def _held(flags: Sequence[str], script: str) -> Iterator[tuple["subprocess.Popen[str]", int]]:
    """New namespaces and the process id of their first process."""
    holder = subprocess.Popen(
        ["unshare", *flags, "sh", "-ec", script],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, preexec_fn=_die_with_parent,  # noqa: PLW1509  (prctl alone)
    )  # fmt: skip
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline().strip() == "ready", "the namespaces could not be set up"
        (first,) = psutil.Process(holder.pid).children()
        yield holder, first.pid
    finally:
        holder.kill()  # and with it, by --kill-child, the first process of its namespaces
        holder.communicate()


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _entering(pid: int) -> list[str]:
    return ["--target", str(pid), "--net", "--mount", "--uts", "--pid"]


def _in_net(pid: int, *command: str) -> None:
    subprocess.run(["nsenter", "--target", str(pid), "--net", *command], check=True)


def ray_command(*arguments: str) -> list[str]:
    """`ray …` of the environment that the tests run in."""
    return [sys.executable, "-m", "ray.scripts.scripts", *arguments]
