"""The flags of one version of a framework, as shipped in `schemas/`, and the choice of the version."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal

from packaging.version import InvalidVersion, Version
from pydantic import BaseModel, ConfigDict, Field

Framework = Literal["vllm", "sglang", "trtllm"]
Choice = str | int | float | bool
TITLES: Mapping[str, str] = {"vllm": "vLLM", "sglang": "SGLang", "trtllm": "TensorRT-LLM"}


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Flag(_Data):
    """One flag. Its value is text on a command line; `type` says as what the framework reads it."""

    type: Literal["bool", "int", "float", "str", "json", "list"]
    default: Choice | None = Field(
        default=None, description="the literal default; null: none, or one that is computed"
    )
    choices: tuple[Choice, ...] = Field(default=(), description="empty: any value of the type")
    open: bool = Field(default=False, description="other values than `choices` are possible too")
    any_case: bool = Field(default=False, description="`choices` are read without regard to case")
    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None
    aliases: tuple[str, ...] = ()
    negatable: bool = Field(default=False, description="whether there is a --no- form")
    repeatable: bool = False
    deprecated: str = Field(default="", description="what to use instead; empty: not deprecated")
    replaced: dict[str, str] = Field(
        default_factory=dict, description="choice → the one that the framework takes in its place"
    )


class FlagSchema(_Data):
    """All flags of one version. `gone`: flags of other versions → what replaced each, empty for nothing."""

    framework: Framework
    version: str
    provenance: str
    extracted: str
    gone: dict[str, str] = Field(default_factory=dict)
    flags: dict[str, Flag]
    yaml: dict[str, Flag] = Field(
        default_factory=dict, description="top-level keys of the framework's YAML; empty: unknown"
    )

    @property
    def title(self) -> str:
        """As in messages: vLLM 0.33.0."""
        return f"{TITLES[self.framework]} {self.version}"

    def find(self, name: str) -> str | None:
        """The flag's own name for one with dashes or underscores, without leading dashes; None: unknown."""
        return _spelled(self.framework, self.version).get(_plain(name))


@dataclass(frozen=True, slots=True)
class Chosen:
    """A schema for an engine. `exact`: it is of this very version; `why` says how it was chosen."""

    schema: FlagSchema
    exact: bool
    why: str


@cache
def versions(framework: str) -> tuple[str, ...]:
    """The versions whose flags are known, oldest first; empty for frameworks without a schema."""
    folder = resources.files(__package__) / "schemas"
    names = (each.name for each in folder.iterdir() if each.name.endswith(".json"))
    pairs = (name.removesuffix(".json").split("-", 1) for name in names)
    return tuple(sorted((v for name, v in pairs if name == framework), key=Version))


@cache
def schema_of(framework: str, version: str) -> FlagSchema:
    """The schema of a known version."""
    path = resources.files(__package__) / "schemas" / f"{framework}-{version}.json"
    return FlagSchema.model_validate_json(path.read_text())


@cache
def chosen(framework: str, version: str | None) -> Chosen | None:
    """The schema for a version: its own, else the nearest older known one's; None: the newest known.

    None for a framework without schemas.
    """
    known = versions(framework)
    if not known:
        return None
    newest = schema_of(framework, known[-1])
    title = TITLES[framework]
    if version is None:
        return Chosen(newest, True, f"flags are those of {newest.title}, the newest known")
    try:
        wanted = Version(version)
    except InvalidVersion:
        return Chosen(
            newest, False, f"{title} {version}: flags of {newest.version}, the newest known"
        )
    same = [each for each in known if Version(each).public == wanted.public]
    if same:
        return Chosen(schema_of(framework, same[0]), True, f"flags are those of {title} {same[0]}")
    older = [each for each in known if Version(each) <= wanted]
    near = older[-1] if older else known[0]
    which = "the nearest older one known" if older else "the oldest known"
    return Chosen(schema_of(framework, near), False, f"{title} {version}: flags of {near}, {which}")


def known_in(framework: str, name: str) -> list[str]:
    """The known versions that have a flag of this name, oldest first."""
    return [v for v in versions(framework) if schema_of(framework, v).find(name) is not None]


@cache
def _spelled(framework: str, version: str) -> Mapping[str, str]:
    flags = schema_of(framework, version).flags
    names = {_plain(alias): name for name, flag in flags.items() for alias in flag.aliases}
    return {**names, **{_plain(name): name for name in flags}}


def _plain(name: str) -> str:
    return re.sub("-", "_", name.lstrip("-"))
