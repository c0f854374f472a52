"""The flags of one version of a framework, as shipped in `schemas/`, and the choice of the version."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Literal

from packaging.version import InvalidVersion, Version
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from serving.errors import LaunchError
from serving.process.home import home

Framework = Literal["vllm", "sglang", "trtllm", "nim"]
Choice = str | int | float | bool
TITLES: Mapping[str, str] = {
    "vllm": "vLLM",
    "sglang": "SGLang",
    "trtllm": "TensorRT-LLM",
    "nim": "NIM",
}


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
    """All flags of one version. `gone`: flags, or variables, of other versions → what replaced each, empty for
    nothing."""

    framework: Framework
    version: str
    provenance: str
    extracted: str
    gone: dict[str, str] = Field(default_factory=dict)
    flags: dict[str, Flag]
    yaml: dict[str, Flag] = Field(
        default_factory=dict, description="top-level keys of the framework's YAML; empty: unknown"
    )
    variables: dict[str, Flag] = Field(
        default_factory=dict, description="environment variables that configure it"
    )

    @property
    def title(self) -> str:
        """As in messages: vLLM 0.33.0."""
        return f"{TITLES[self.framework]} {self.version}"

    def find(self, name: str) -> str | None:
        """The flag's own name for one with dashes or underscores, without leading dashes; None: unknown."""
        return self._names.get(_plain(name))

    @cached_property
    def spellings(self) -> Mapping[str, tuple[str, bool]]:
        """Each word that names a flag → the flag's own name, and whether the word is its --no- form."""
        found: dict[str, tuple[str, bool]] = {}
        for name, flag in self.flags.items():
            found |= dict.fromkeys((name, *flag.aliases), (name, False))
            if flag.type == "bool":
                bare = [each for each in (name, *flag.aliases) if each.startswith("--")]
                found |= {f"--no-{each.removeprefix('--')}": (name, True) for each in bare}
        return found

    @cached_property
    def _names(self) -> Mapping[str, str]:
        aliases = {_plain(a): name for name, flag in self.flags.items() for a in flag.aliases}
        return {**aliases, **{_plain(name): name for name in self.flags}}


@dataclass(frozen=True, slots=True)
class Chosen:
    """A schema for an engine. `exact`: it is of this very version; `assumed`: the version is unknown.

    `why` says how it was chosen.
    """

    schema: FlagSchema
    exact: bool
    why: str
    assumed: bool = False


def own_folder() -> Path:
    """Where schemas are that `wattfront engines schema` extracted: they are known too."""
    return home() / "flags"


def versions(framework: str) -> tuple[str, ...]:
    """The versions whose flags are known, oldest first; empty for frameworks without a schema."""
    return tuple(_files(framework, *_own()))


def schema_of(framework: str, version: str) -> FlagSchema:
    """The schema of a known version. Raises LaunchError for a file that is none."""
    return _read(framework, version, *_own())


def chosen(framework: str, version: str | None) -> Chosen | None:
    """The schema for a version: its own, else the nearest older known one's; None: the newest known.

    None for a framework without schemas.
    """
    return _chosen(framework, version, versions(framework))


def candidates(found: Chosen) -> tuple[FlagSchema, ...]:
    """The versions that an engine may be: the chosen one if it is exact, else all that are known."""
    framework = found.schema.framework
    return (
        (found.schema,)
        if found.exact
        else tuple(schema_of(framework, v) for v in versions(framework))
    )


def default_of(found: Chosen, name: str) -> Choice | None:
    """The literal default of a flag, if all `candidates` that have the flag agree; None: not known."""
    named = ((each, each.find(name)) for each in candidates(found))
    known = [each.flags[flag].default for each, flag in named if flag is not None]
    first = known[0] if known else None
    return first if all(each == first and type(each) is type(first) for each in known) else None


def _own() -> tuple[Path, int]:
    """The folder of extracted schemas, and when it last changed; 0: there is none."""
    folder = own_folder()
    return folder, folder.stat().st_mtime_ns if folder.is_dir() else 0


@cache
def _files(framework: str, own: Path, changed_ns: int) -> Mapping[str, Traversable]:
    """Version → its file, oldest first; an extracted one comes before the shipped one."""
    shipped = resources.files(__package__) / "schemas"
    found: dict[str, Traversable] = {}
    for folder in (shipped, *([own] if changed_ns else [])):
        for each in folder.iterdir():
            name, _, version = each.name.removesuffix(".json").partition("-")
            if name == framework and each.name.endswith(".json") and _is_version(version):
                found[version] = each
    return {version: found[version] for version in sorted(found, key=Version)}


def _is_version(text: str) -> bool:
    try:
        Version(text)
    except InvalidVersion:
        return False
    return True


@cache
def _read(framework: str, version: str, own: Path, changed_ns: int) -> FlagSchema:
    path = _files(framework, own, changed_ns)[version]
    try:
        return FlagSchema.model_validate_json(path.read_text())
    except (OSError, ValidationError) as error:
        raise LaunchError(
            f"{path}: no flags of a version: {str(error).splitlines()[0]}; extract them anew"
        ) from error


@cache
def _chosen(framework: str, version: str | None, known: tuple[str, ...]) -> Chosen | None:
    if not known:
        return None
    newest = schema_of(framework, known[-1])
    title = TITLES[framework]
    if version is None:
        why = f"version unknown here: flags of {newest.title}, the newest known"
        return Chosen(newest, exact=False, why=why, assumed=True)
    try:
        wanted = Version(version)
    except InvalidVersion:
        return Chosen(
            newest, False, f"{title} {version}: flags of {newest.version}, the newest known"
        )
    same = [each for each in known if Version(each).public == wanted.public]
    same = [each for each in same if Version(each) == wanted] or same
    if same:
        return Chosen(schema_of(framework, same[0]), True, f"flags are those of {title} {same[0]}")
    older = [each for each in known if Version(each) <= wanted]
    near = older[-1] if older else known[0]
    which = "the nearest older one known" if older else "the oldest known"
    return Chosen(schema_of(framework, near), False, f"{title} {version}: flags of {near}, {which}")


def known_in(framework: str, name: str) -> list[str]:
    """The known versions that have a flag of this name, oldest first."""
    return [v for v in versions(framework) if schema_of(framework, v).find(name) is not None]


def _plain(name: str) -> str:
    return re.sub("-", "_", name.lstrip("-"))
