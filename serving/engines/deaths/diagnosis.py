"""Finds the cause of a death in a log: the strongest one, above the lines that only pass it on."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from serving.engines.deaths.model import Death, DeathTable, compiled, strength
from serving.engines.deaths.platform import COMMON
from serving.errors import EngineExited, Phase, ServingError, SharedMemoryExhausted

COLOUR = re.compile(r"\x1b\[[0-9;]*m")
# What loggers put before a line: process, level, time, place. `[Errno 98]` is part of a message.
PREFIX = re.compile(
    r"(?:\([^()]*\bpid=\d+[^()]*\)\s*"
    r"|(?:DEBUG|INFO|WARNING|ERROR|CRITICAL)\s+\d\d-\d\d \d\d:\d\d:\d\d\s*"
    r"|(?:DEBUG|INFO|WARNING|ERROR|CRITICAL):\s*"
    r"|\[(?!Errno\b)[^\[\]]*\]:?\s*"
    r"|(?:\d+\.){2,3}\d+ [DIWE] )+"
)
TRACEBACK = "Traceback (most recent call last):"
END = re.compile(
    r"(?:\w+\.)*\w*(?:Error|Exception|Exit|Interrupt|NotFound|OutOfResources)\b(?::|$)"
)
FAILED = re.compile(r"\b(error|fatal|failed)\b", re.IGNORECASE)
# Between the tracebacks of one exception and of the one that it led to.
CHAINED = re.compile(
    r"During handling of the above exception|The above exception was the direct cause"
)
# Lines by which one process reports that another one died: the cause is above them.
WRAPPERS = re.compile(
    r"See root cause above|See stack trace (\(above\) )?for (the )?root cause|"
    r"EngineCore (failed to start|encountered|encountered a fatal)|EngineDeadError|"
    r"Engine process failed to start|WorkerProc (initialization failed|failed to start|hit an exception)|"
    r"Executor worker (returned error|died during initialization)|Received sigquit from a child process|"
    r"kill_process_tree called|"
    r"Triggering SIGQUIT for cleanup|Shutting down the engine|Initialization failed\. warmup error|"
    r"Please see the (error messages above|logs above)|scheduler is dead\. Please check|"
    r"leaked (semaphore|shared_memory)|destroy_process_group\(\) was not called|"
    r"Failed to init server, please check the input params|cleaning up before exit|"
    r"MPI_ABORT was invoked|Primary job +terminated normally|"
    r"^(asyncio\.exceptions\.)?CancelledError\b|^SystemExit\b|^KeyboardInterrupt\b|^EOFError$|"
    r"(\w+\.)*ChildFailedError\b|child processes? (unexpectedly )?(died|failed)"
)
# Lines after which an engine that still answers HTTP does no work any more.
FATAL = re.compile(
    r"hard-killing all \d+ ranks|EngineCore encountered|EngineDeadError|See root cause above|"
    r"scheduler is dead\. Please check|Executor worker returned error"
)
SIGKILL_IN_LOG = re.compile(r"exit ?code:? -9\b")
BUS_ERROR = -7
BUS_ERROR_REMEDY = "Give the engine more shared memory: --ipc=host, or a larger --shm-size."
FRAMES = 40  # lines of a traceback above its end that are looked at
UNKNOWN_REMEDY = "Read the end of engine.log: no known cause is in it."


@dataclass(frozen=True, slots=True)
class Log:
    """The lines of a log that are not empty. `bare`: without what loggers put before them."""

    lines: tuple[str, ...]
    bare: tuple[str, ...]
    roots: frozenset[int]  # the ends of the last traceback, and of those that led to it

    @classmethod
    def of(cls, text: str) -> "Log":
        """The log of this text."""
        lines = [COLOUR.sub("", line).strip() for line in text.splitlines()]
        kept = tuple(line for line in lines if line)
        bare = tuple(PREFIX.sub("", line, count=1) if PREFIX.match(line) else line for line in kept)
        return cls(kept, bare, _roots(bare))

    def wraps(self, index: int) -> bool:
        """Whether the line only says that another process died."""
        return WRAPPERS.search(self.bare[index]) is not None


def diagnose(
    table: DeathTable,
    exit_code: int | None,
    text: str,
    path: Path | None = None,
    phase: Phase = "",
) -> ServingError:
    """Why an engine exited: an error with the line that says so, and what to change.

    `phase`: what it was doing, where that is known without its log.
    """
    log = Log.of(text)
    if found := _cause(table, log):
        death, index = found
        when = death.phase or phase or phase_at(table, log.bare[:index])
        remedy = table.remedy(death, when)
        return death.error(_evidence(log, death, index), path, phase=when, remedy=remedy)
    when = phase or phase_at(table, log.bare)
    if exit_code is not None and exit_code < 0:
        last = next((line for line in reversed(log.lines) if not _wraps(line)), "the log is empty")
        line = f"killed by signal {-exit_code}; last line: {last}"
        if exit_code == BUS_ERROR:
            return SharedMemoryExhausted(line, path, phase=when, remedy=BUS_ERROR_REMEDY)
        return EngineExited(line, path, phase=when, remedy=UNKNOWN_REMEDY)
    line = f"exit code {exit_code}: {last_words(log)}"
    return EngineExited(line, path, phase=when, remedy=UNKNOWN_REMEDY)


def phase_at(table: DeathTable, lines: Sequence[str]) -> Phase:
    """The phase that the last of the marking lines began; empty if there is none."""
    for line in reversed(lines):
        for pattern, phase in table.phases:
            if compiled(pattern).search(line):
                return phase
    return ""


def last_words(log: Log) -> str:
    """The most informative line: the end of the last traceback, an error line, or the last line."""
    if log.roots:
        return _with_frame(log, max(log.roots))
    own = [line for index, line in enumerate(log.lines) if not log.wraps(index)]
    failed = (line for line in reversed(own) if FAILED.search(line))
    return next(failed, own[-1] if own else "the log is empty")


def is_fatal(text: str) -> bool:
    """Whether the log says that the engine is dead, though its server may live on."""
    return FATAL.search(text) is not None


def killed(exit_code: int | None, text: str) -> bool:
    """Whether the engine or a process of it ended by SIGKILL."""
    return exit_code == -9 or SIGKILL_IN_LOG.search(text) is not None


def _wraps(line: str) -> bool:
    return WRAPPERS.search(PREFIX.sub("", line, count=1)) is not None


def _roots(bare: Sequence[str]) -> frozenset[int]:
    ends = [i for i, line in enumerate(bare) if END.match(line) and not WRAPPERS.search(line)]
    roots: set[int] = set()
    while ends:
        last = ends.pop()
        roots.add(last)
        between = bare[ends[-1] : last] if ends else ()
        if not any(CHAINED.search(line) for line in between):
            break
    return frozenset(roots)


def _cause(table: DeathTable, log: Log) -> tuple[Death, int] | None:
    """The strongest death that the log names, and the last line that does."""
    for death in sorted((*table.deaths, *COMMON), key=strength):
        if death.counts == "alone" and log.roots:
            continue
        found = next(_places(death, log), None)
        if found is not None:
            return death, found
    return None


def _places(death: Death, log: Log) -> Iterator[int]:
    search = compiled(death.pattern).search
    places = sorted(log.roots) if death.counts == "at the end" else range(len(log.bare))
    for index in reversed(places):
        if not search(log.bare[index]) or log.wraps(index):
            continue
        if death.above and not any(
            compiled(death.above).search(line) for line in _traceback(log, index)
        ):
            continue
        yield index


def _traceback(log: Log, end: int) -> Sequence[str]:
    """The lines of the traceback that ends there."""
    above = log.bare[max(0, end - FRAMES) : end]
    starts = [i for i, line in enumerate(above) if TRACEBACK in line]
    return above[starts[-1] :] if starts else ()


def _evidence(log: Log, death: Death, index: int) -> str:
    line = log.lines[index]
    if log.bare[index] in ("AssertionError", "AssertionError:"):
        return _with_frame(log, index)
    below = range(index + 1, min(index + 1 + death.below, len(log.bare)))
    return ": ".join([line, *(log.bare[i] for i in below if not log.wraps(i))])


def _with_frame(log: Log, index: int) -> str:
    """An exception without a message says nothing: the code that raised it does."""
    line = log.bare[index]
    frames = _traceback(log, index)
    if ":" in line or not frames:
        return line
    return f"{line}: {frames[-1]}"
