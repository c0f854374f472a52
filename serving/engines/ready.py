"""Whether a started engine is ready, and is still the process that was started; if not, why."""

import math
import os
import time
from dataclasses import dataclass, field
from pathlib import Path

from serving import probe
from serving.engines.access import HIDDEN, Access
from serving.engines.base import BaseEngine
from serving.engines.deaths.cuda import KERNEL
from serving.engines.deaths.diagnosis import is_fatal, killed, phase_at
from serving.engines.deaths.platform import PORT
from serving.errors import (
    ContainerFailed,
    EngineExited,
    EngineHung,
    EngineRestarted,
    LaunchError,
    Phase,
    PortTaken,
    ServingError,
    StartTimeout,
    SupervisorDied,
    Unhealthy,
)
from serving.process.environ import ACCELERATED, redacted, secret_values
from serving.process.generation import generations, started_s
from serving.process.kernel_log import kernel_lines, oom_kills
from serving.process.process import Supervised

POLL_S, SLOW_POLL_S = 0.05, 0.25
TRANSIENT_SOCKET_S = 1.0
EXIT_S = 2.0
CONTAINER_EXIT_S = 60.0  # also for the runtime to say why the container ended, and to remove it
CANARY_S = 20.0  # for one token
DYING_S = 8.0  # for an engine that lost a process to end, or to say so
LOOK_S = 5.0  # between two looks at the log of an engine that is not ready
LOG_TAIL_BYTES = 256 << 10
TOO_SLOW = (
    "Raise the engine's start_timeout_s if its log shows progress; else look for what it waits for."
)
SIGNALLED = 128  # a container that ended by a signal: this, and the signal's number
RUNTIME_CODES = (
    125,
    126,
    127,
)  # of a runtime that could not start the container, or the command in it
STUCK = (
    "Leave out what is experimental in this configuration; if one node repeats it, check its GPUs."
)


@dataclass(frozen=True, slots=True)
class Start:
    """One attempt to start an engine, on one port. `inherits`: the variables that it gets from its node.

    `shown_argv`: the arguments with the contents of files that were written for this start: `files`. `reads`:
    paths and hub ids of the models that it loads. `contained`: it runs in a container. `transfer_port`: as of
    `Launch`.
    """

    argv: tuple[str, ...]
    shown_argv: tuple[str, ...]
    environ: dict[str, str]
    inherits: tuple[str, ...]
    host: str
    port: int
    served_model: str
    access: Access
    reads: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    contained: bool = False
    transfer_port: int | str = 0
    oom_kills: int = field(default_factory=oom_kills)  # of the kernel, before this start

    @property
    def url(self) -> str:
        """Where the engine answers."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


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
    found = probe.holders(process.tree(), start.port, start.host)
    if found or not start.contained or (root := process.outside()) is None:
        return found
    # The processes of a container may belong to another user: their sockets are known by that user alone.
    hidden = not os.access(f"/proc/{root}/fd", os.R_OK | os.X_OK)
    ours = hidden and probe.listens_as(Path(f"/proc/{root}").stat().st_uid, start.port, start.host)
    return frozenset({root}) if ours else found


def wait_ready(engine: BaseEngine, process: Supervised, start: Start, log: Path) -> frozenset[str]:
    """Waits until our process tree alone holds the port, health answers 200 and the model is listed.

    Returns the generations of the processes that hold the port. Raises ServingError; PortTaken: see there.
    """
    port, url, key = start.port, start.url, start.access.api_key
    wait = _Wait(engine, start, log)
    listeners: frozenset[int] = frozenset()
    while True:
        if not process.alive():
            if not listeners and _taken(process, start):
                raise PortTaken(f"port {port} was taken by another process", log, remedy=PORT)
            raise _death(engine, process, start, log)
        if probe.listening(port, start.host):
            listeners = _holders(process, start)
            if not listeners and _taken(process, start):
                raise PortTaken(f"port {port} was taken by another process", log, remedy=PORT)
            if listeners and probe.healthy(url + engine.health_path, key):
                names = probe.model_names(url, key)
                if start.served_model in names:
                    _check_access(start, log)
                    return generations(listeners)
                if names:
                    raise Unhealthy(
                        f"the engine serves {', '.join(names)}, not {start.served_model}", log
                    )
        wait.go_on()


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
    engine: BaseEngine,
    process: Supervised,
    start: Start,
    listeners: frozenset[str],
    log: Path,
    *,
    canary: bool = False,
) -> None:
    """Raises ServingError unless one of the processes that held the port at the start holds it.

    `canary`: and answers a request of one token. A health page may answer for a server whose engine is dead or
    stands still; only the request shows it.
    """
    deadline = time.monotonic() + EXIT_S
    while process.alive():
        if generations(_holders(process, start)) & listeners:
            why = _no_progress(engine, process, start) if canary else ""
            if process.alive():
                if why:
                    raise _stuck(engine, start, log, why, "under load")
                return
            break
        # A process that was just killed releases its port a moment before it counts as dead.
        if time.monotonic() > deadline:
            raise EngineRestarted(
                f"port {start.port} is no longer held by the process that held it at the start", log
            )
        time.sleep(POLL_S)
    raise _death(engine, process, start, log, "under load")


class _Wait:
    """The wait for an engine to be ready. `go_on` raises ServingError once it is over."""

    def __init__(self, engine: BaseEngine, start: Start, log: Path) -> None:
        self._engine, self._start, self._log = engine, start, log
        self._began = self._looked = time.monotonic()
        self._dead_since = math.inf

    def go_on(self) -> None:
        """Sleeps for a moment."""
        now, engine = time.monotonic(), self._engine
        if now - self._looked >= LOOK_S:
            self._looked = now
            if is_fatal(_said(self._start, self._log)):
                self._dead_since = min(self._dead_since, now)
        if now - self._dead_since >= DYING_S:
            raise _stuck(engine, self._start, self._log, "its server runs, but the engine is dead")
        if now - self._began > engine.start_timeout_s:
            raise self._too_slow()
        time.sleep(POLL_S if now - self._began < 5 else SLOW_POLL_S)

    def _too_slow(self) -> ServingError:
        said = _said(self._start, self._log)
        cause = self._engine.diagnose(None, said, self._log)
        if cause.domain in ("machine", "network"):  # a rank is dead, and the others wait for it
            return cause
        lines = said.strip().splitlines()
        last = (lines or ["the log is empty"])[-1]
        return StartTimeout(
            f"not ready within {self._engine.start_timeout_s:g} s; last line: {last}",
            self._log,
            phase=phase_at(self._engine.deaths, lines),
            remedy=TOO_SLOW,
        )


def _no_progress(engine: BaseEngine, process: Supervised, start: Start) -> str:
    """Why the engine makes no progress; empty if it does. That it answers errors is the load's to report."""
    began = time.monotonic()
    status = probe.completes(start.url, start.served_model, start.access.api_key, CANARY_S)
    if status is not None and status < 500:
        return ""
    if time.monotonic() - began >= CANARY_S:
        return f"no answer to a request of one token within {CANARY_S:g} s"
    deadline = time.monotonic() + DYING_S
    while process.alive() and time.monotonic() < deadline:
        time.sleep(SLOW_POLL_S)
    if probe.healthy(start.url + engine.health_path, start.access.api_key):
        return ""
    return f"a request of one token gets status {status}, and the health page does not answer 200"


def _stuck(
    engine: BaseEngine, start: Start, log: Path, why: str, phase: Phase = ""
) -> ServingError:
    """The cause that the log names; else a hang."""
    found = engine.diagnose(None, _said(start, log), log, phase)
    if type(found) is not EngineExited:
        return found
    return EngineHung(
        f"{why}; {found.evidence.removeprefix('exit code None: ')}",
        log,
        phase=found.phase,
        remedy=STUCK,
    )


def _death(
    engine: BaseEngine, process: Supervised, start: Start, log: Path, phase: Phase = ""
) -> Exception:
    deadline = time.monotonic() + (CONTAINER_EXIT_S if start.contained else EXIT_S)
    while process.exit_code() is None and time.monotonic() < deadline and process.supervised():
        time.sleep(POLL_S)
    code, said = process.exit_code(), _said(start, log)
    if start.contained and code is not None and code > SIGNALLED:
        code = SIGNALLED - code
    if code in (126, 127) and "could not start" in said:
        return LaunchError(said.strip().splitlines()[-1], log)
    if code is None:
        return SupervisorDied("the engine and its supervisor were killed", log)
    facts = _kernel_facts(process, start, was_killed=killed(code, said))
    found = engine.diagnose(code, "\n".join([said, *facts]), log, phase)
    if start.contained and type(found) is EngineExited and code in RUNTIME_CODES:
        return ContainerFailed(found.evidence, log, phase="start", remedy=found.remedy)
    return found


def _kernel_facts(process: Supervised, start: Start, *, was_killed: bool) -> list[str]:
    """What the kernel says of the time since the start. Of processes killed for lack of memory: if one was."""
    lines = kernel_lines(started_s(process.generation))
    on_gpus = bool(start.environ.get("CUDA_VISIBLE_DEVICES"))
    facts = [line for line in lines if on_gpus and "NVRM: Xid" in line]
    if was_killed:
        facts += [line for line in lines if "ut of memory: Killed process" in line]
        count = oom_kills() - start.oom_kills
        if count > 0:
            facts.append(f"the out-of-memory killer ended {count} processes since the start")
    return [f"{KERNEL}{fact}" for fact in facts]
