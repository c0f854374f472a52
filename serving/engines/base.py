"""An engine adapter: a frozen config that builds the command line and classifies failures from the log."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import dropwhile
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from serving.endpoint import CacheReset
from serving.engines.deaths.diagnosis import diagnose
from serving.engines.deaths.model import DeathTable
from serving.engines.flags.check import Finding, as_text, check, reserved, written
from serving.engines.flags.roles import in_role, unfit
from serving.engines.flags.schema import Chosen, chosen, default_of
from serving.engines.flags.structured import Structured
from serving.errors import LaunchError, Phase, ServingError
from serving.process.containers.command import CLIENT
from serving.process.containers.config import Container
from serving.process.environ import ACCELERATED
from serving.telemetry.engine_metrics.page import MetricsPage
from serving.telemetry.engine_metrics.startup import StartupLines
from serving.topology import Member, Pause, Seconds, Strict, Topology

ModelFormat = Literal["gguf", "safetensors"]
Value = str | int | float | bool | None
Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Setting = Annotated[str, BeforeValidator(lambda v: as_text(v) if isinstance(v, int | float) else v)]
Figure = Annotated[int | float, Field(ge=-(10**15), le=10**15)]
FlagValue = bool | Figure | str | list[Any] | dict[str, Any]
# Stands for the port in a command line that is shown before a port is chosen.
PORT: Literal["$PORT"] = "$PORT"
HOST = "$HOST"  # likewise, for an engine that listens on its node's address


@dataclass(frozen=True, slots=True)
class Launch:
    """What an adapter needs to build its command line.

    `port`: a variable, as `PORT`, in a command line that is shown. `devices`: as CUDA_VISIBLE_DEVICES has them.
    `revision`: of a model on Hugging Face. `version`: of the engine; None: the newest known.
    `options_path`: the file of `BaseEngine.options`; None: the command line is only shown, with them in it.
    """

    executable: str
    model_path: str
    served_model: str
    host: str
    port: int | str
    topology: Topology
    context_tokens: int
    devices: tuple[str, ...] = ()
    revision: str | None = None
    version: str | None = None
    options_path: str | None = None
    transfer_port: int | str = 0  # of an engine with a role: where the others fetch its KV cache


class BaseEngine(Strict):
    """Fields are knobs under the engine's own flag names; None leaves the flag out."""

    # Under which name `flags/` knows its flags and layouts.
    framework: ClassVar[str] = ""
    model_format: ClassVar[ModelFormat] = "safetensors"
    default_executable: ClassVar[str]
    typical_start_s: ClassVar[float] = 120.0
    health_path: ClassVar[str] = "/health"
    # Whether the engine itself fetches a given revision of a model from Hugging Face.
    takes_revision: ClassVar[bool] = True
    # The names of the engine's Python package, whose metadata has its version; empty: it is no package.
    packages: ClassVar[tuple[str, ...]] = ()
    # Path and JSON key under which the engine reports its own version.
    version_at: ClassVar[tuple[str, str]] = ("", "")
    # What the engine reports of itself under load, and the lines of its log that time its start.
    metrics_page: ClassVar[MetricsPage] = MetricsPage()
    startup_lines: ClassVar[StartupLines] = StartupLines()
    deaths: ClassVar[DeathTable] = DeathTable()
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
    # The knob that is the share of a GPU's memory for weights and KV cache; empty: the engine has none.
    memory_knob: ClassVar[str] = ""
    # Whether it closes connections after answers that announce to keep them.
    breaks_connections: ClassVar[bool] = False
    # Whether an image of the engine starts it without a command.
    starts_by_image: ClassVar[bool] = False
    # How its prefix cache is emptied while it serves nothing; None: it can't be.
    cache_reset: ClassVar[CacheReset | None] = None
    # Knobs that change no answer, but for the order of sums in a batch. All others count as changing numerics.
    same_numerics: ClassVar[frozenset[str]] = frozenset()
    # How KV caches travel between engines of two roles, where `kv_transfer` does not say.
    transfers_by: ClassVar[Mapping[str, Value]] = {}
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
    container: Container | None = Field(
        default=None,
        description="container image that has the engine, in place of `environment`; unset: none",
    )
    version: str | None = Field(
        default=None,
        description="version of the engine: chooses among those installed (docs/environments.md), and its "
        "flags are checked; unset: the installed one, else the newest known (docs/engines.md)",
    )
    flags: dict[str, FlagValue] = Field(
        default_factory=dict,
        description="any further flag of the engine by its name, with dashes or underscores: true or false for "
        "a switch; checked by the flags of the engine's version",
    )
    env: dict[str, Setting] = Field(
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
    prefill_knobs: dict[str, FlagValue] = Field(
        default_factory=dict,
        description="knobs of prefill engines that differ from those of decode engines (topology.prefill)",
    )
    start_timeout_s: Seconds = Field(
        default=600.0,
        description="seconds from starting the process until it must answer; after that the trial fails",
    )
    hang_after_s: Seconds = Field(
        default=60.0,
        description="seconds under load without any output, and without a change of the engine's own metrics, "
        "while requests wait; after that the trial fails as a hang",
    )
    stop_grace_s: Pause = Field(
        default=5.0, description="seconds from SIGTERM to SIGKILL when the engine is stopped"
    )

    @model_validator(mode="before")
    @classmethod
    def _knobs_among_flags(cls, data: Any) -> Any:
        """A flag that has a knob of its own is that knob, so that both spellings are one configuration; null is
        a flag that is left out."""
        if not isinstance(data, Mapping) or not isinstance(data.get("flags"), Mapping):
            return data
        own = {name for name in cls.model_fields if name not in BaseEngine.model_fields} - {"kind"}
        rest, moved = {}, {}
        for name, value in data["flags"].items():
            knob = str(name).lstrip("-").replace("-", "_")
            if knob in own and data.get(knob) is None:
                moved[knob] = value
            elif value is not None:
                rest[name] = value
        return {**data, **moved, "flags": rest}

    def command(self, launch: Launch) -> list[str]:
        """The argv that starts the engine in the foreground. Raises LaunchError where there is none."""
        raise NotImplementedError

    def environ(self, launch: Launch) -> dict[str, str]:
        """Variables on top of the inherited environment: at least, which GPUs the engine may see."""
        return {"CUDA_VISIBLE_DEVICES": ",".join(launch.devices), **self.env}

    def options(self, launch: Launch) -> str:
        """The contents of the file of options that the engine reads beside its arguments; empty: none."""
        return ""

    def served_name(self, launch: Launch) -> str:
        """The name under which the engine lists the model."""
        return launch.served_model

    def refuses(self, topology: Topology, served_model: str) -> str:
        """Why the engine can't serve a model of this name so laid out; empty if it can."""
        return unfit(self.framework, self, topology, self.transfers_by)

    def as_member(self, member: Member) -> Self:
        """The settings of one engine of several: those of its role. Raises ValueError, in one line."""
        return in_role(self, member.role, self.transfers_by)

    def known_flags(self, version: str | None) -> Chosen | None:
        """The flags of its version; `version`: the installed one. None: no version's flags are known."""
        return chosen(self.framework, version or self.version)

    def canonical(self, *, literal: bool = True) -> Self:
        """Without knobs and flags whose value is that of an engine that gets none.

        `literal`: also by the defaults of its version's flags, which hold for the real engine alone; where the
        version is not known exactly, as far as all known versions agree.
        """
        unset: dict[str, Any] = {
            knob: None
            for knob, value in self.unset_means.items()
            if _same(getattr(self, knob), value)
        }
        known = self.known_flags(None) if literal else None
        if known is not None:
            own = set(type(self).model_fields) - set(BaseEngine.model_fields) - {"kind"}
            unset |= {k: None for k in own if _same(getattr(self, k), default_of(known, k))}
            unset["flags"] = {
                name: value
                for name, value in self.flags.items()
                if not _same(value, default_of(known, name))
            }
        unset |= {knob: each.canonical() for knob, each in self if isinstance(each, Structured)}
        return self.model_copy(update=unset)

    @property
    def further_models(self) -> tuple[str, ...]:
        """Paths and hub ids of models that it loads besides the one that it serves."""
        drafts = getattr(self, "speculation", None)
        return (drafts.model,) if drafts is not None and drafts.active and drafts.model else ()

    @property
    def has_api_key(self) -> bool:
        """Whether `ask_for` makes the engine ask for an API key."""
        return bool(self.api_key_variable)

    def ask_for(self, api_key: str, folder: Path | None) -> tuple[list[str], dict[str, str]]:
        """Arguments and variables that make the engine ask for the key, which is in no argument.

        `folder`: a private one for files; None: the shown form. Raises LaunchError.
        """
        return [], {self.api_key_variable: api_key}

    def flag_words(self, launch: Launch) -> list[str]:
        """The words of `flags`."""
        known = self.known_flags(launch.version)
        return [
            word
            for name, value in self.flags.items()
            for word in written(known.schema if known else None, name, value)
        ]

    def findings(self, launch: Launch) -> list[Finding]:
        """What is wrong with its command line by the flags of its version; empty for an unknown engine."""
        known = self.known_flags(launch.version)
        if known is None:
            return []
        words = [*dropwhile(lambda word: not word.startswith("--"), self.command(launch))]
        own = [*self.flag_words(launch), *self.extra_args]
        return [*reserved(known.schema, own), *check(known, words)]

    def passed(self, *, downloads: bool) -> tuple[str, ...]:
        """The variables of its node that the engine gets, names or patterns. `downloads`: with `secrets`."""
        secrets = self.secrets if downloads else ()
        client = CLIENT if self.container is not None else ()
        return (*ACCELERATED, *self.inherits, *secrets, *self.env_passthrough, *client)

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

    def diagnose(
        self, exit_code: int | None, log: str, path: Path | None = None, phase: Phase = ""
    ) -> ServingError:
        """Why the engine exited, by its log and exit code: an error with the line that says so.

        `phase`: what it was doing, where that is known without its log.
        """
        return diagnose(self.deaths, exit_code, log, path, phase)


def _same(value: object, default: object) -> bool:
    """Whether a value is the default; True is no 1."""
    return default is not None and value == default and type(value) is type(default)


def flags(pairs: Mapping[str, Value | tuple[int, ...]]) -> list[str]:
    """`{"--a": 1, "--b": None, "--c": True}` → `["--a", "1", "--c"]`; None and False: left out."""
    argv: list[str] = []
    for name, value in pairs.items():
        if value is None or value is False:
            continue
        each = value if isinstance(value, tuple) else (value,)
        argv += [name] if value is True else [name, *map(as_text, each)]
    return argv


def refuse_revision(launch: Launch, engine: str) -> None:
    """For engines that can't fetch a revision. Raises LaunchError if the model names one."""
    if launch.revision is not None:
        raise LaunchError(
            f"model.revision={launch.revision}: {engine} has no option for a revision: leave it unset, "
            "and give model.source the path of that revision's files"
        )
