"""Whether a started engine is ready, and is still the process that was started; if not, why."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from serving import probe
from serving.engines.access import HIDDEN, Access
from serving.engines.base import BaseEngine
from serving.errors import EngineRestarted, LaunchError, StartTimeout, SupervisorDied, Unhealthy
from serving.process.environ import ACCELERATED, redacted, secret_values
from serving.process.generation import generations
from serving.process.process import Supervised

POLL_S, SLOW_POLL_S = 0.05, 0.25
TRANSIENT_SOCKET_S = 1.0
EXIT_S = 2.0
LOG_TAIL_BYTES = 256 << 10


@dataclass(frozen=True, slots=True)
class Start:
    """One attempt to start an engine, on one port. `inherits`: the variables that it gets from its node."""

    argv: tuple[str, ...]
    environ: dict[str, str]
    inherits: tuple[str, ...]
    host: str
    port: int
    served_model: str
    access: Access

    @property
    def url(self) -> str:
        """Where the engine answers."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


class PortTaken(LaunchError):
    """Another process took the port between its choice and its use: retried on another port."""


def tail(log: Path) -> str:
    """The last LOG_TAIL_BYTES of a log, as text; empty if there is none."""
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(max(log.stat().st_size - LOG_TAIL_BYTES, 0))
        return file.read().decode(errors="replace")


def _taken(process: Supervised, start: Start) -> bool:
    """Whether another process holds the port, seen for longer than a socket of our own can look like that.

    Ours may appear between the look at the port and the look at the process tree; and the socket of an engine
    that is exiting may outlive the process that held it for a moment.
    """
    deadline = time.monotonic() + TRANSIENT_SOCKET_S
    while time.monotonic() < deadline:
        if not probe.listening(start.port, start.host) or _holders(process, start):
            return False
        time.sleep(POLL_S)
    return True


def _holders(process: Supervised, start: Start) -> frozenset[int]:
    return probe.holders(process.tree(), start.port, start.host)


def wait_ready(engine: BaseEngine, process: Supervised, start: Start, log: Path) -> frozenset[str]:
    """Waits until our process tree alone holds the port, health answers 200 and the model is listed.

    Returns the generations of the processes that hold the port. Raises ServingError; PortTaken: see there.
    """
    began, port, url, key = time.monotonic(), start.port, start.url, start.access.api_key
    listeners: frozenset[int] = frozenset()
    while True:
        if not process.alive():
            if not listeners and _taken(process, start):
                raise PortTaken(f"port {port} was taken by another process", log)
            raise _death(engine, process, start, log)
        if probe.listening(port, start.host):
            listeners = _holders(process, start)
            if not listeners and _taken(process, start):
                raise PortTaken(f"port {port} was taken by another process", log)
            if listeners and probe.healthy(url + engine.health_path, key):
                names = probe.model_names(url, key)
                if start.served_model in names:
                    _check_access(start, log)
                    return generations(listeners)
                if names:
                    raise Unhealthy(
                        f"the engine serves {', '.join(names)}, not {start.served_model}", log
                    )
        waited_s = time.monotonic() - began
        if waited_s > engine.start_timeout_s:
            last = (_said(start, log).strip().splitlines() or ["the log is empty"])[-1]
            raise StartTimeout(
                f"not ready within {engine.start_timeout_s:g} s; last line: {last}", log
            )
        time.sleep(POLL_S if waited_s < 5 else SLOW_POLL_S)


def _check_access(start: Start, log: Path) -> None:
    if start.access.api_key and not probe.refuses(f"{start.url}/v1/completions"):
        raise Unhealthy(
            "the engine answers without its API key: start a version that asks for it", log
        )


def _said(start: Start, log: Path) -> str:
    """The end of its log without its API key and the secrets of its node."""
    secrets = secret_values(os.environ, {*start.inherits} - {*ACCELERATED})
    return redacted(tail(log).replace(start.access.api_key or HIDDEN, HIDDEN), secrets)


def check_running(
    engine: BaseEngine, process: Supervised, start: Start, listeners: frozenset[str], log: Path
) -> None:
    """Raises ServingError unless one of the processes that held the port at the start holds it."""
    deadline = time.monotonic() + EXIT_S
    while process.alive():
        if generations(_holders(process, start)) & listeners:
            return
        # A process that was just killed releases its port a moment before it counts as dead.
        if time.monotonic() > deadline:
            raise EngineRestarted(
                f"port {start.port} is no longer held by the process that held it at the start", log
            )
        time.sleep(POLL_S)
    raise _death(engine, process, start, log)


def _death(engine: BaseEngine, process: Supervised, start: Start, log: Path) -> Exception:
    deadline = time.monotonic() + EXIT_S
    while process.exit_code() is None and time.monotonic() < deadline:
        time.sleep(POLL_S)
    code, said = process.exit_code(), _said(start, log)
    if code in (126, 127) and "could not start" in said:
        return LaunchError(said.strip().splitlines()[-1], log)
    if code is None:
        return SupervisorDied("the engine and its supervisor were killed", log)
    return engine.diagnose(code, said, log)
