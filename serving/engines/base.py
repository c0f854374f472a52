"""What every engine adapter is: a frozen config that knows its command line, and how to read its own death."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from serving.errors import BadFlags, EngineExited, OutOfMemory, ServingError
from serving.topology import Strict, Topology

ModelFormat = Literal["gguf", "safetensors"]
Death = tuple[str, type[ServingError]]

# Read from the end of the log; the first pattern that matches a line decides. Engines put theirs before these.
COMMON_DEATHS: tuple[Death, ...] = (
    (r"CUDA out of memory|OutOfMemoryError|CUDA error: out of memory", OutOfMemory),
    (r"\bCannot allocate memory\b|MemoryError\b|std::bad_alloc", OutOfMemory),
    (r"error: unrecognized arguments?:", BadFlags),
    (r"error: argument \S+: ", BadFlags),
)
TRACEBACK_END = re.compile(r"^(?:\(.*?\)\s*)?(?:[A-Z]+ [\d: -]+\[.*?\]\s*)?([\w.]*(?:Error|Exception|Exit)\b.*)")


@dataclass(frozen=True, slots=True)
class Launch:
    """What an adapter needs to know to write its command line."""

    executable: str
    model_path: str
    served_model: str
    host: str
    port: int
    topology: Topology
    context_tokens: int
    devices: tuple[str, ...] = ()


class BaseEngine(Strict):
    """Fields are knobs under the engine's own names; None leaves the flag out: the engine's default.

    `executable`: a path, or a name on PATH; else the one of the managed `environment`.
    """

    model_format: ClassVar[ModelFormat] = "safetensors"
    default_executable: ClassVar[str]
    typical_start_s: ClassVar[float] = 120.0
    health_path: ClassVar[str] = "/health"
    version_at: ClassVar[tuple[str, str]] = ("", "")  # path and JSON key of the engine's own version
    deaths: ClassVar[tuple[Death, ...]] = ()

    executable: str | None = None
    environment: str | None = None
    env: dict[str, str] = {}
    extra_args: tuple[str, ...] = ()
    start_timeout_s: float = Field(default=600.0, gt=0)

    def command(self, launch: Launch) -> list[str]:
        """The argv that starts the engine in the foreground."""
        raise NotImplementedError

    def environ(self, launch: Launch) -> dict[str, str]:
        """What is set on top of the inherited environment."""
        visible = {"CUDA_VISIBLE_DEVICES": ",".join(launch.devices)} if launch.topology.gpus else {}
        return {**visible, **self.env}

    def diagnose(self, exit_code: int | None, log: str, path: Path | None = None) -> ServingError:
        """Why it died, from its log and exit code: an error with the one line that says so."""
        lines = [line.strip() for line in log.splitlines() if line.strip()]
        for pattern, death in (*self.deaths, *COMMON_DEATHS):
            for line in reversed(lines):
                if re.search(pattern, line):
                    return death(line, path)
        if exit_code == -9:
            return OutOfMemory(_last(lines, "killed by signal 9: the kernel's OOM killer, or somebody"), path) if (
                any("oom" in line.lower() for line in lines[-20:])
            ) else EngineExited(f"killed by signal 9; last line: {_last(lines, '(no log)')}", path)
        return EngineExited(f"exit code {exit_code}: {evidence(lines)}", path)


def evidence(lines: Sequence[str]) -> str:
    """The line that says most: the end of the last traceback, an error line, or the last line."""
    for line in reversed(lines):
        if match := TRACEBACK_END.match(line):
            return match[1]
    for line in reversed(lines):
        if re.search(r"\b(error|fatal|failed)\b", line, re.IGNORECASE):
            return line
    return _last(lines, "the log is empty")


def _last(lines: Sequence[str], otherwise: str) -> str:
    return lines[-1] if lines else otherwise


def flags(pairs: dict[str, str | int | float | bool | None]) -> list[str]:
    """`{"--a": 1, "--b": None, "--c": True}` → `["--a", "1", "--c"]`; None and False leave a flag out."""
    argv: list[str] = []
    for name, value in pairs.items():
        if value is None or value is False:
            continue
        argv += [name] if value is True else [name, str(value)]
    return argv
