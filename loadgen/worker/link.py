"""The connection from the level controller to one worker process."""

import contextlib
import os
import select
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection as Pipe
from multiprocessing.connection import wait
from pathlib import Path
from typing import Protocol, Self

from loadgen.errors import ShardLost
from loadgen.worker.messages import FromWorker, Shutdown, ToWorker

_PACKAGES = Path(__file__).parents[2]
_END_S = 5.0
STUCK_S = 60  # in the middle of a message
# Of our environment a worker gets what Python and its libraries read: no key, no password.
_INHERITED = ("PATH", "HOME", "TMPDIR", "LANG", "TZ")
_INHERITED_PREFIXES = (
    "LC_",
    "LD_",
    "PYTHON",
    "MALLOC_",
    "OMP_",
    "OPENBLAS_",
    "MKL_",
    "SSL_CERT_",
    "TOKENIZERS_",
)


class Link(Protocol):
    """`send` and `receive` raise ShardLost when the worker is gone."""

    def send(self, message: ToWorker) -> None:
        """Sends one message."""

    def receive(self, timeout_s: float) -> list[FromWorker]:
        """The messages that arrived; waits for the first one, and returns none after the time-out."""

    def close(self) -> None:
        """Ends the worker; never raises."""


class LocalLink:
    """A worker process on this machine. It ends with this process, however that ends."""

    def __init__(self, process: "subprocess.Popen[bytes] | _Forked", ours: socket.socket) -> None:
        self._process = process
        # A worker that is stopped takes no message, and may have sent half of one.
        for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
            ours.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", STUCK_S, 0))
        self._pipe = Pipe(ours.detach())

    @classmethod
    def start(cls, before: Sequence[str] = ()) -> Self:
        """Starts the process. `before`: a command that runs another, such as `numactl`."""
        ours, theirs = socket.socketpair()
        path = os.pathsep.join(filter(None, (str(_PACKAGES), os.environ.get("PYTHONPATH"))))
        with theirs:
            process = subprocess.Popen(
                [*before, sys.executable, "-m", "loadgen.worker.process", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env=_inherited() | {"PYTHONPATH": path},
            )
        return cls(process, ours)

    @classmethod
    def fork(cls) -> Self:
        """Starts it by fork: nothing has to be imported again. Only for a process without threads."""
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            code = 1
            try:  # whatever happens, the child must not go on as its parent
                ours.close()
                from loadgen.worker import process  # late: nothing else here needs it

                process.main(theirs.detach())
                code = 0
            finally:
                sys.stderr.flush()
                os._exit(code)
        theirs.close()
        return cls(_Forked(pid), ours)

    @property
    def pid(self) -> int:
        """The process id of the worker."""
        return self._process.pid

    def send(self, message: ToWorker) -> None:
        """As in `Link`."""
        try:
            self._pipe.send(message)
        except OSError as error:
            raise self._lost() from error

    def receive(self, timeout_s: float) -> list[FromWorker]:
        """As in `Link`."""
        messages: list[FromWorker] = []
        try:
            while wait([self._pipe], 0 if messages else timeout_s):
                messages.append(self._pipe.recv())
        except (EOFError, OSError) as error:
            if not messages or isinstance(error, BlockingIOError):
                raise self._lost() from error
        return messages

    def _lost(self) -> ShardLost:
        try:
            code = self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            return ShardLost("a process of the load generator does not answer")
        return ShardLost(f"a process of the load generator ended by itself (exit {code})")

    def close(self) -> None:
        """As in `Link`. Kills a worker that does not end."""
        with contextlib.suppress(OSError):
            self._pipe.send(Shutdown())
        self._pipe.close()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _inherited() -> dict[str, str]:
    return {
        name: value
        for name, value in os.environ.items()
        if name in _INHERITED or name.startswith(_INHERITED_PREFIXES)
    }


class _Forked:
    """A forked child behind the part of the `subprocess.Popen` interface that is used here."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._fd = os.pidfd_open(pid)
        self._code: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        if self._code is None:
            if not select.select([self._fd], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("worker", timeout or 0.0)
            self._code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            os.close(self._fd)
        return self._code

    def kill(self) -> None:
        if self._code is None:
            signal.pidfd_send_signal(self._fd, signal.SIGKILL)
