"""Hydra's loader over our groups and a user's own, and its parser of overrides."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from loadgen.workload.yaml_file import first_line
from tuner.config.errors import ConfigError
from tuner.config.own_files import check_names, folders_in, search_path

ROOT = "config"
# Of another command: its root config → the groups only it has.
OTHER_ROOTS = {"fleet_plan": {"fleet"}}


def conf_dir() -> Path:
    """The folder of our YAML: inside the installed package, or of this checkout."""
    package = Path(__file__).parents[2]
    installed = package / "_conf"
    return installed if installed.is_dir() else package.parent / "conf"


class Loader:
    """Hydra's loader with the user's own folder in its search path."""

    def __init__(self, hydra_loader: Any, config_dir: Path | None) -> None:
        self.hydra = hydra_loader
        self.config_dir = config_dir
        self.own = set[str]() if config_dir is None else folders_in(config_dir)

    def groups(self, root: str) -> set[str]:
        """The groups of a root: for a study all but those of other commands."""
        if root in OTHER_ROOTS:
            return OTHER_ROOTS[root]
        return {*self.hydra.list_groups(""), *self.own}.difference({"hydra"}, *OTHER_ROOTS.values())

    def roots(self) -> list[str]:
        """The configurations that --config-name can name."""
        known = self.hydra.get_group_options("")
        return [str(each) for each in known if each not in OTHER_ROOTS and each[0] != "_"]

    def get_group_options(self, group: str, *_: Any, **__: Any) -> list[str]:
        """The options of a group, under the name that Hydra's parser calls it by."""
        return [str(option) for option in self.hydra.get_group_options(group)]


@contextmanager
def opened(config_dir: Path | None) -> Iterator[Loader]:
    """The loader for the length of a with block. Raises ConfigError for a folder that can't be read."""
    from hydra import initialize_config_dir
    from hydra._internal.hydra import Hydra
    from hydra._internal.utils import create_config_search_path
    from hydra.core.global_hydra import GlobalHydra

    ours = conf_dir().resolve()
    with initialize_config_dir(str(ours), version_base="1.3"):
        if config_dir is not None:
            folders_in(config_dir)
            check_names(config_dir, ours)
            # Not by hydra.searchpath: there Hydra looks for no root configuration.
            path = create_config_search_path(str(ours))
            path.prepend("own", search_path(config_dir), "schema")
            GlobalHydra.instance().clear()
            Hydra.create_main_hydra2("wattfront", path)
        yield Loader(GlobalHydra.instance().config_loader(), config_dir)


def parsed(overrides: Sequence[str], loader: Loader) -> list[Any]:
    """The overrides as Hydra reads them. Raises ConfigError, for those of Hydra's own settings too."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import OverrideParseException

    try:
        found = list(
            OverridesParser.create(config_loader=loader).parse_overrides(list(overrides))  # type: ignore[arg-type]
        )
    except OverrideParseException as error:
        raise ConfigError(
            f"{error.override}: not an override (key=value): {first_line(error)}"
        ) from error
    except ValueError as error:  # a number of thousands of digits
        raise ConfigError(f"an override holds a value that can't be read: {error}") from error
    if refused := [why for each in found if (why := _of_hydra(each))]:
        raise ConfigError("\n".join(refused))
    return found


STUDY_FOLDER = (
    "a study has a folder of its own, OUTPUT_DIR/NAME-DATE-TIME: use output_dir=… and name=…"
)
SCHEDULED = "Ray Tune schedules trials, and --multirun runs one study after the other: leave it out"
# Settings of Hydra itself, by the beginning of their keys → what has their effect here.
OF_HYDRA = {
    "hydra.run": STUDY_FOLDER,
    "hydra.sweep": STUDY_FOLDER,
    "hydra.output_subdir": STUDY_FOLDER,
    "hydra.runtime": STUDY_FOLDER,
    "hydra.job.name": "use name=…",
    "hydra.job.chdir": "the directory never changes, and a study's folder is under output_dir=…",
    "hydra.job.env": "use engine.NAME.env, or the environment of this command",
    "hydra.launcher": SCHEDULED,
    "hydra.sweeper": SCHEDULED,
    "hydra.mode": "use --multirun",
    "hydra.searchpath": "use --config-dir DIR",
}


def _of_hydra(override: Any) -> str:
    """Why a setting of Hydra itself is refused; empty for any other key."""
    key = override.key_or_group
    dotted = key.partition("@")[0].replace("/", ".")
    if dotted.partition(".")[0] != "hydra":
        return ""
    near = [each for each in OF_HYDRA if f"{dotted}.".startswith((f"{each}.", f"{each}_"))]
    why = OF_HYDRA[max(near, key=len)] if near else "it has no effect here: leave it out"
    return f"{key}: Hydra only composes the configuration; {why}"
