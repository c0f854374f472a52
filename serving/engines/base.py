"""An engine adapter: a frozen config that builds the command line and classifies failures from the log."""

import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from serving.errors import BadFlags, EngineExited, LaunchError, OutOfMemory, ServingError
from serving.process.environ import ACCELERATED
from serving.topology import Pause, Seconds, Strict, Topology

ModelFormat = Literal["gguf", "safetensors"]
Death = tuple[str, type[ServingError]]
Value = str | int | float | bool | None
Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
# Stands for the port in a command line that is shown before a port is chosen.
PORT: Literal["$PORT"] = "$PORT"
HOST = "$HOST"  # likewise, for an engine that listens on its node's address

# The first pattern that any line matches decides; the last such line is the evidence. An engine's own
# patterns are tried before these.
COMMON_DEATHS: tuple[Death, ...] = (
    (r"CUDA out of memory|OutOfMemoryError|CUDA error: out of memory", OutOfMemory),
    (r"\bCannot allocate memory\b|MemoryError\b|std::bad_alloc", OutOfMemory),
    (r"error: unrecognized arguments?:", BadFlags),
    (r"error: argument \S+: ", BadFlags),
)
# The last line of a Python traceback, after whatever prefix the engine's logging adds.
TRACEBACK_END = re.compile(r"^(?:.*\] )?(?:\(.*?\) ?)?((?:\w+\.)*\w*(?:Error|Exception|Exit)\b.*)")


@dataclass(frozen=True, slots=True)
class Launch:
    """What an adapter needs to build its command line.

    `port`: `PORT` for a command line that is only shown. `devices`: as CUDA_VISIBLE_DEVICES names them.
    `revision`: of a model on Hugging Face.
    """

    executable: str
    model_path: str
    served_model: str
    host: str
    port: int | Literal["$PORT"]
    topology: Topology
    context_tokens: int
    devices: tuple[str, ...] = ()
    revision: str | None = None


class BaseEngine(Strict):
    """Fields are knobs under the engine's own flag names; None leaves the flag out."""

    model_format: ClassVar[ModelFormat] = "safetensors"
    default_executable: ClassVar[str]
    typical_start_s: ClassVar[float] = 120.0
    health_path: ClassVar[str] = "/health"
    # Whether the engine itself fetches a given revision of a model from Hugging Face.
    takes_revision: ClassVar[bool] = True
    # Path and JSON key under which the engine reports its own version.
    version_at: ClassVar[tuple[str, str]] = ("", "")
    deaths: ClassVar[tuple[Death, ...]] = ()
    # Variables of the node that the engine gets, names or patterns, besides those of every engine; `secrets`:
    # those with which it downloads a model.
    inherits: ClassVar[tuple[str, ...]] = ()
    secrets: ClassVar[tuple[str, ...]] = ()
    # The variable from which the engine reads an API key; empty: it reads one otherwise, or has none.
    api_key_variable: ClassVar[str] = ""
    # The variable of the folder for sockets between its processes; empty: it has none.
    sockets_variable: ClassVar[str] = ""
    # Why its port is open to every host that reaches the node, however it is started; empty: it is not.
    listens_everywhere: ClassVar[str] = ""
    # Knob → the quantity that it sets, in the words that all engines share.
    meanings: ClassVar[Mapping[str, str]] = {}
    # Knob → the value that the engine takes where the flag is left out, if it is the same in all versions.
    unset_means: ClassVar[Mapping[str, Value]] = {}

    executable: str | None = Field(
        default=None,
        description="path of the engine's command, or a name on PATH; unset: the one of `environment`, "
        "else the engine's usual name on PATH",
    )
    environment: str | None = Field(
        default=None,
        description="environment of `wattfront engines install` that has the engine's command",
    )
    env: dict[str, str] = Field(
        default_factory=dict,
        description="environment variables of the engine, stored with the study; they override Wattfront's "
        "own; secrets: env_passthrough",
    )
    env_passthrough: tuple[Variable, ...] = Field(
        default=(),
        description="names of variables that the engine gets from the environment of its node; their values "
        "are stored nowhere",
    )
    extra_args: tuple[str, ...] = Field(
        default=(),
        description="arguments that are appended to the engine's command line as they are",
    )
    start_timeout_s: Seconds = Field(
        default=600.0,
        description="seconds from starting the process until it must answer; after that the trial fails",
    )
    stop_grace_s: Pause = Field(
        default=5.0, description="seconds from SIGTERM to SIGKILL when the engine is stopped"
    )

    def command(self, launch: Launch) -> list[str]:
        """The argv that starts the engine in the foreground. Raises LaunchError where there is none."""
        raise NotImplementedError

    def environ(self, launch: Launch) -> dict[str, str]:
        """Variables on top of the inherited environment: at least, which GPUs the engine may see."""
        return {"CUDA_VISIBLE_DEVICES": ",".join(launch.devices), **self.env}

    @property
    def has_api_key(self) -> bool:
        """Whether `ask_for` makes the engine ask for an API key."""
        return bool(self.api_key_variable)

    def ask_for(self, api_key: str, folder: Path | None) -> tuple[list[str], dict[str, str]]:
        """Arguments and variables that make the engine ask for the key, which is in no argument.

        `folder`: a private one for files; None: the shown form. Raises LaunchError.
        """
        return [], {self.api_key_variable: api_key}

    def passed(self, *, downloads: bool) -> tuple[str, ...]:
        """The variables of its node that the engine gets, names or patterns. `downloads`: with `secrets`."""
        secrets = self.secrets if downloads else ()
        return (*ACCELERATED, *self.inherits, *secrets, *self.env_passthrough)

    def knobs(
        self, *, separator: str = "-", negatable: bool = False, without: Collection[str] = ()
    ) -> list[str]:
        """The fields that the adapter itself declares, as flags: `max_num_seqs` → `--max-num-seqs`.

        `negatable`: False becomes `--no-…` (else it leaves the flag out, as None does).
        """
        argv: list[str] = []
        for field in type(self).model_fields:
            if field in BaseEngine.model_fields or field == "kind" or field in without:
                continue
            name, value = field.replace("_", separator), getattr(self, field)
            if value is False and negatable:
                argv.append(f"--no-{name}")
            else:
                argv += flags({f"--{name}": value})
        return argv

    def diagnose(self, exit_code: int | None, log: str, path: Path | None = None) -> ServingError:
        """Why the engine exited, by its log and exit code: an error with the line that says so."""
        lines = [line.strip() for line in log.splitlines() if line.strip()]
        for pattern, death in (*self.deaths, *COMMON_DEATHS):
            for index in reversed(range(len(lines))):
                if re.search(pattern, lines[index]):
                    return death(_with_cause(lines, index), path)
        if exit_code is not None and exit_code < 0:
            last = lines[-1] if lines else "the log is empty"
            return EngineExited(f"killed by signal {-exit_code}; last line: {last}", path)
        return EngineExited(f"exit code {exit_code}: {evidence(lines)}", path)


def check_passed(kind: str, names: Sequence[str]) -> None:
    """Raises LaunchError if a variable of an engine's `env_passthrough` is not set on this node."""
    if unset := [name for name in names if name not in os.environ]:
        raise LaunchError(
            f"engine.{kind}.env_passthrough: {', '.join(unset)} is not set where the engine "
            "starts: set it in the environment of `wattfront`, or of the Ray node of a cluster"
        )


def evidence(lines: Sequence[str]) -> str:
    """The most informative line: the end of the last traceback, an error line, or the last line."""
    for line in reversed(lines):
        if match := TRACEBACK_END.match(line):
            return match[1]
    for line in reversed(lines):
        if re.search(r"\b(error|fatal|failed)\b", line, re.IGNORECASE):
            return line
    return lines[-1] if lines else "the log is empty"


def _with_cause(lines: Sequence[str], index: int) -> str:
    """The line; for pydantic's errors with the next two: the field, and what is wrong with it."""
    pydantic = re.search(r"validation errors? for \w+$", lines[index])
    return ": ".join(lines[index : index + (3 if pydantic else 1)])


def flags(pairs: Mapping[str, Value]) -> list[str]:
    """`{"--a": 1, "--b": None, "--c": True}` → `["--a", "1", "--c"]`; None and False: left out."""
    argv: list[str] = []
    for name, value in pairs.items():
        if value is None or value is False:
            continue
        argv += [name] if value is True else [name, str(value)]
    return argv


def beyond_one(size: int) -> int | None:
    """A parallel size, or None for 1, the default of every engine."""
    return size if size > 1 else None


def refuse_revision(launch: Launch, engine: str) -> None:
    """For engines that can't fetch a revision. Raises LaunchError if the model names one."""
    if launch.revision is not None:
        raise LaunchError(
            f"model.revision={launch.revision}: {engine} has no option for a revision: leave it unset, "
            "and give model.source the path of that revision's files"
        )
