"""Composition by Hydra, from YAML groups and overrides to one mapping. The only module that imports hydra."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tuner.config.errors import ConfigError, renamed, suggestion

ROOT = "config"
OTHER_ROOTS = {
    "fleet_plan": {"fleet"}
}  # of another command: its root config → the groups only it has
SETTINGS = {"name", "output_dir"}  # keys of a study that are no groups
# Unions by kind, each kind with keys of its own: a whole value replaces the old one, it is not merged into it.
KINDS = {"workload.arrival"}


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
    try:
        plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        raise ConfigError(
            f"{error.full_key}: a value is missing: set {error.full_key}=…"
        ) from error
    except OmegaConfBaseException as error:
        raise ConfigError(f"{error.full_key}: {_first_line(error)}") from error
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def compose_yaml(overrides: Sequence[str], config_dir: Path | None = None) -> str:
    """What `--cfg job` prints: composed but not validated, interpolations as written."""
    from omegaconf import OmegaConf

    return OmegaConf.to_yaml(_compose(overrides, config_dir))


def multirun(overrides: Sequence[str], config_dir: Path | None = None) -> list[list[str]]:
    """Each combination of the values of a sweep: `a=1,2`, `b=range(1,4)`, `c=choice(x,y)`, `d=glob(*)`."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    with _loader(config_dir) as loader:
        batches = BasicSweeper.split_arguments(_parse(overrides, loader), max_batch_size=None)
    return [list(job) for batch in batches for job in batch]


def to_yaml(data: dict[str, Any]) -> str:
    """The mapping as YAML text."""
    from omegaconf import OmegaConf

    return OmegaConf.to_yaml(OmegaConf.create(data))


def from_yaml(path: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds. Raises ConfigError if it holds another thing."""
    from omegaconf import OmegaConf

    plain = OmegaConf.to_container(OmegaConf.load(path))
    if not isinstance(plain, dict):
        raise ConfigError(f"{path}: not a YAML mapping")
    return {str(key): value for key, value in plain.items()}


@contextmanager
def _loader(config_dir: Path | None) -> Iterator[Any]:
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    if config_dir is not None and not config_dir.is_dir():
        raise ConfigError(f"--config-dir {config_dir}: there is no such directory")
    with initialize_config_dir(str(conf_dir().resolve()), version_base="1.3"):
        yield GlobalHydra.instance().config_loader()


def _parse(overrides: Sequence[str], loader: Any) -> list[Any]:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import OverrideParseException

    try:
        return list(OverridesParser.create(config_loader=loader).parse_overrides(list(overrides)))
    except OverrideParseException as error:
        raise ConfigError(
            f"{error.override}: not an override (key=value): {_first_line(error)}"
        ) from error


def _compose(overrides: Sequence[str], config_dir: Path | None, root: str = ROOT) -> Any:
    import hydra
    from hydra.errors import HydraException, MissingConfigException
    from omegaconf.errors import OmegaConfBaseException

    private = [] if config_dir is None else [f"hydra.searchpath=[file://{config_dir.resolve()}]"]
    with _loader(config_dir) as loader:
        groups = _groups(loader, config_dir, root)
        given = [
            word
            for override in _parse(overrides, loader)
            for word in (*_replaced(override), _settable(override, groups))
        ]
        try:
            return hydra.compose(root, [*private, *given])
        except MissingConfigException as error:
            raise ConfigError(_no_option(error, loader)) from error
        except (HydraException, OmegaConfBaseException) as error:
            raise ConfigError(_composition(error)) from error


def _groups(loader: Any, config_dir: Path | None, root: str) -> set[str]:
    """The groups of a root: for a study all but those of other commands."""
    if root in OTHER_ROOTS:
        return OTHER_ROOTS[root]
    own = (
        () if config_dir is None else (path.name for path in config_dir.iterdir() if path.is_dir())
    )
    return {*loader.list_groups(""), *own}.difference({"hydra"}, *OTHER_ROOTS.values())


def _settable(override: Any, groups: set[str]) -> str:
    """The override as Hydra takes it: with `++`, since a knob that no YAML lists may be set too."""
    from hydra.core.override_parser.types import OverrideType

    key, line = override.key_or_group, str(override.input_line)
    if old := renamed(key):
        raise ConfigError(old)
    if override.is_sweep_override():
        raise ConfigError(
            f"{line}: several values need --multirun (a study for each), or [a,b] for a list"
        )
    top = key.partition(".")[0]
    choice = key in groups and not isinstance(override.value(), dict)
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
        return _first_line(error)
    known = error.options or loader.get_group_options(group)
    return f"{group}={option}: there is no such {group}; {suggestion(option, known)}"


def _composition(error: Exception) -> str:
    cause = error.__cause__
    return _first_line(error) if cause is None else f"{_first_line(error)} ({_first_line(cause)})"


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "")
