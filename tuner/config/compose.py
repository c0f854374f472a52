"""Composition by Hydra, from YAML groups and overrides to one mapping."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from loadgen.workload.yaml_file import BadYaml, first_line
from tuner.config.errors import ConfigError, renamed, suggestion
from tuner.config.own_files import check_names, folders_in, search_path
from tuner.config.stored_secrets import stored_secrets

ROOT = "config"
OTHER_ROOTS = {
    "fleet_plan": {"fleet"}
}  # of another command: its root config → the groups only it has
STUDIES_MAX = 10_000  # of one --multirun
SETTINGS = {"name", "output_dir"}  # keys of a study that are no groups
# Unions by kind, each kind with keys of its own: a whole value replaces the old one, it is not merged into it.
KINDS = {"workload.arrival"}
# Mappings of free names, where a mistyped name would be a new entry without a mistake.
NAMED = ("slo.tiers", "workload.arrival.tiers")


def conf_dir() -> Path:
    """The folder of our YAML: inside the installed package, or of this checkout."""
    package = Path(__file__).parents[1]
    installed = package / "_conf"
    return installed if installed.is_dir() else package.parent / "conf"


def compose(
    overrides: Sequence[str], config_dir: Path | None = None, root: str = ROOT
) -> dict[str, Any]:
    """The composed configuration, interpolations resolved. `config_dir` adds to our groups."""
    from omegaconf import OmegaConf
    from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

    config = _compose(overrides, config_dir, root)
    _refuse_secrets(config)
    try:
        plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        raise ConfigError(
            f"{error.full_key}: a value is missing: set {error.full_key}=…"
        ) from error
    except OmegaConfBaseException as error:
        raise ConfigError(f"{error.full_key}: {first_line(error)}") from error
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def compose_yaml(overrides: Sequence[str], config_dir: Path | None = None) -> str:
    """What `--cfg job` prints: composed but not validated, interpolations as written."""
    from omegaconf import OmegaConf

    config = _compose(overrides, config_dir)
    _refuse_secrets(config)
    return OmegaConf.to_yaml(config)


def _refuse_secrets(config: Any) -> None:
    """Before interpolations are resolved: what comes from the environment is seen only here."""
    from omegaconf import OmegaConf

    plain = OmegaConf.to_container(config)
    if isinstance(plain, dict) and (found := list(stored_secrets(plain))):
        raise ConfigError("\n".join(found))


def multirun(overrides: Sequence[str], config_dir: Path | None = None) -> list[list[str]]:
    """Each combination of the values of a sweep: `a=1,2`, `b=range(1,4)`, `c=choice(x,y)`, `d=glob(*)`."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    with _loader(config_dir) as loader:
        parsed = _parse(overrides, loader)
        _check_sweeps(parsed, loader)
        batches = BasicSweeper.split_arguments(parsed, max_batch_size=None)
    return [list(job) for batch in batches for job in batch]


def _check_sweeps(overrides: Sequence[Any], loader: Any) -> None:
    """Raises ConfigError for a sweep without values, one that can't be listed, and for too many studies."""
    studies = 1
    for override in overrides:
        if not override.is_sweep_override():
            continue
        line = override.input_line
        if not override.is_discrete_sweep():
            raise ConfigError(f"{line}: an interval has no values to list: use range(…) or a,b,c")
        if override.is_range_sweep() and not override.value().step:
            raise ConfigError(f"{line}: a step of 0 never ends")
        if override.is_range_sweep() and not _finite(override.value()):
            raise ConfigError(f"{line}: a range needs finite ends")
        values = sum(1 for _ in islice(override.sweep_iterator(), STUDIES_MAX + 1))
        if not values:
            known = loader.get_group_options(override.key_or_group)
            raise ConfigError(f"{line}: nothing matches; {suggestion('', known)}")
        studies *= values
    if studies > STUDIES_MAX:
        raise ConfigError(f"--multirun: more than {STUDIES_MAX:,} studies")


def _finite(sweep: Any) -> bool:
    return all(math.isfinite(each) for each in (sweep.start, sweep.stop, sweep.step))


def to_yaml(data: dict[str, Any]) -> str:
    """The mapping as YAML text."""
    from omegaconf import OmegaConf

    return OmegaConf.to_yaml(OmegaConf.create(data))


class _Loader:
    """Hydra's loader with the user's own folder in its search path."""

    def __init__(self, loader: Any, config_dir: Path | None) -> None:
        self._loader = loader
        self.own = set[str]() if config_dir is None else folders_in(config_dir)
        if config_dir is not None:
            check_names(config_dir, conf_dir())
        self.words = [] if config_dir is None else [f"hydra.searchpath=[{search_path(config_dir)}]"]

    def groups(self) -> set[str]:
        """The names of all groups."""
        return {*self._loader.list_groups(""), *self.own}

    def get_group_options(self, group: str, *_: Any, **__: Any) -> list[str]:
        """The options of a group, under the name that Hydra's parser calls it by."""
        known = self._loader.get_group_options(group, config_name=ROOT, overrides=self.words)
        return [str(option) for option in known]


@contextmanager
def _loader(config_dir: Path | None) -> Iterator[_Loader]:
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    with initialize_config_dir(str(conf_dir().resolve()), version_base="1.3"):
        yield _Loader(GlobalHydra.instance().config_loader(), config_dir)


def _parse(overrides: Sequence[str], loader: Any) -> list[Any]:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import OverrideParseException

    try:
        return list(OverridesParser.create(config_loader=loader).parse_overrides(list(overrides)))
    except OverrideParseException as error:
        raise ConfigError(
            f"{error.override}: not an override (key=value): {first_line(error)}"
        ) from error
    except ValueError as error:  # a number of thousands of digits
        raise ConfigError(f"an override holds a value that can't be read: {error}") from error


def _compose(overrides: Sequence[str], config_dir: Path | None, root: str = ROOT) -> Any:
    with _loader(config_dir) as loader:
        groups = _groups(loader, root)
        parsed = _parse(overrides, loader)
        given = [
            word
            for override in parsed
            for word in (*_replaced(override), _settable(override, groups, loader))
        ]
        composed = partial(_composed, loader, root)
        _check_names(parsed, composed, given)
        return composed(given)


def _composed(loader: _Loader, root: str, words: Sequence[str]) -> Any:
    """What Hydra makes of the words. Raises ConfigError."""
    import hydra
    from hydra.errors import HydraException, MissingConfigException
    from omegaconf.errors import OmegaConfBaseException

    try:
        return hydra.compose(root, [*loader.words, *words])
    except MissingConfigException as error:
        raise ConfigError(_no_option(error, loader)) from error
    except BadYaml as error:
        raise ConfigError(str(error)) from error
    except RecursionError as error:
        raise ConfigError("the configuration contains itself (defaults, or ${…})") from error
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_composition(error)) from error
    except (ValueError, TypeError, LookupError, AttributeError, AssertionError) as error:
        # Hydra's own, of words that it parses and can't apply; it does not say which.
        last = words[-1].removeprefix("++") if words else "the configuration"
        if words:
            _composed(loader, root, words[:-1])
        raise ConfigError(f"{last}: it can't be applied: {first_line(error)}") from error


def _check_names(
    overrides: Sequence[Any], composed: Callable[[Sequence[str]], Any], given: Sequence[str]
) -> None:
    """Raises ConfigError where a mistyped name would make a tier. `composed`: the configuration of words."""
    from omegaconf import OmegaConf

    named = {}
    for override in overrides:
        group = next((each for each in NAMED if override.key_or_group.startswith(f"{each}.")), "")
        name, _, setting = override.key_or_group.removeprefix(f"{group}.").partition(".")
        if group and setting and f"++{override.input_line}" in given:
            named[f"++{override.input_line}"] = group, name
    if not named:
        return
    config = composed([word for word in given if word not in named])
    for word, (group, name) in named.items():
        known = OmegaConf.select(config, group) or {}
        if name not in known:
            raise ConfigError(
                f"{group}.{name}: unknown name; {suggestion(name, map(str, known), 'known names')}; "
                f"to add it: {word.removeprefix('+')}"
            )


def _groups(loader: _Loader, root: str) -> set[str]:
    """The groups of a root: for a study all but those of other commands."""
    if root in OTHER_ROOTS:
        return OTHER_ROOTS[root]
    return loader.groups().difference({"hydra"}, *OTHER_ROOTS.values())


def _settable(override: Any, groups: set[str], loader: Any) -> str:
    """The override as Hydra takes it: with `++`, since a knob that no YAML lists may be set too."""
    from hydra.core.override_parser.types import OverrideType

    key, line = override.key_or_group, str(override.input_line)
    if old := renamed(key):
        raise ConfigError(old)
    if override.is_sweep_override():
        raise ConfigError(
            f"{line}: several values need --multirun (a study for each), or [a,b] for a list"
        )
    top, value = key.partition(".")[0], override.value()
    if key in groups and isinstance(value, bool | int | float):
        known = suggestion("", loader.get_group_options(key))
        raise ConfigError(
            f"{line}: {key} is a group, and {line.partition('=')[2]} is none of its {known}"
        )
    choice = key in groups and not isinstance(value, dict)
    plain = override.type == OverrideType.CHANGE and not choice and top != "hydra"
    if plain and top not in groups | SETTINGS:
        raise ConfigError(f"{top}: unknown key; {suggestion(top, groups | SETTINGS, 'keys')}")
    return f"++{line}" if plain else line


def _replaced(override: Any) -> list[str]:
    """The deletion that has to come before an override of a whole union."""
    value = None if override.is_delete() else override.value()
    whole = override.key_or_group in KINDS and isinstance(value, dict) and "kind" in value
    return [f"~{override.key_or_group}"] if whole else []


def _no_option(error: Any, loader: Any) -> str:
    group, _, option = str(error.missing_cfg_file or "").strip("/").rpartition("/")
    if not group:
        return first_line(error)
    known = error.options or loader.get_group_options(group)
    return f"{group}={option}: there is no such {group}; {suggestion(option, known)}"


def _composition(error: Exception) -> str:
    cause = error.__cause__
    return first_line(error) if cause is None else f"{first_line(error)} ({first_line(cause)})"
