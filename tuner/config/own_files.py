"""Configuration files of users, read by our own rules: a fault is one line with file and line number."""

from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from loadgen.workload.yaml_file import BadYaml, first_line, yaml_fault, yaml_text
from tuner.config.errors import ConfigError

SCHEME = "checked"


def search_path(folder: Path) -> str:
    """The folder as an entry of Hydra's search path, whatever characters its name has."""
    _register()
    return f"{SCHEME}://{quote(str(folder.resolve()))}"


def folders_in(folder: Path) -> set[str]:
    """The groups that a folder of configuration files adds to. Raises ConfigError if it can't be read."""
    try:
        return {path.name for path in folder.iterdir() if path.is_dir()}
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"--config-dir {folder}: {why.lower()}") from error


def check_names(folder: Path, ours: Path) -> None:
    """Raises ConfigError for an option under a name that we have too: Hydra would take ours, without a word."""
    for mine in sorted(folder.glob("*/**/*.yaml")):
        known = ours / mine.relative_to(folder)
        if mine.is_file() and known.is_file() and mine.read_bytes() != known.read_bytes():
            group, *name = mine.relative_to(folder).with_suffix("").parts
            raise ConfigError(
                f"{mine}: there is an option {group}={'/'.join(name)} already: give yours another name"
            )


def from_yaml(path: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds. Raises ConfigError."""
    from omegaconf import OmegaConf

    try:
        plain = OmegaConf.to_container(_loaded(path, yaml_text(path)))
    except BadYaml as error:
        raise ConfigError(str(error)) from error
    if not isinstance(plain, dict) or not plain:
        raise ConfigError(f"{path}:1: it is empty")
    return {str(key): value for key, value in plain.items()}


def _loaded(path: Path, text: str) -> Any:
    """As OmegaConf, which Hydra uses, understands it. Raises BadYaml."""
    import yaml
    from omegaconf import DictConfig, OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        config = OmegaConf.load(StringIO(text))
    except yaml.YAMLError as error:
        raise BadYaml(yaml_fault(path, error)) from error
    except (OmegaConfBaseException, ValueError, TypeError, OSError) as error:
        raise BadYaml(f"{path}: {first_line(error)}") from error
    if not isinstance(config, DictConfig):
        raise BadYaml(f"{path}:1: expected keys with values, such as name: value")
    return config


@cache
def _register() -> None:
    """Teaches Hydra the scheme; nothing else reads it."""
    from hydra._internal.core_plugins.file_config_source import FileConfigSource
    from hydra.core.plugins import Plugins
    from hydra.plugins.config_source import ConfigResult

    class CheckedSource(FileConfigSource):
        """A folder of a user's YAML files."""

        def __init__(self, provider: str, path: str) -> None:
            super().__init__(provider, unquote(path))

        @staticmethod
        def scheme() -> str:
            return SCHEME

        def load_config(self, config_path: str) -> ConfigResult:
            path = Path(self.path) / self._normalize_file_name(config_path)
            text = yaml_text(path)
            try:
                header = self._get_header_dict(text)
            except ValueError as error:
                raise BadYaml(f"{path}:1: {first_line(error)}") from error
            where = f"{SCHEME}://{self.path}"
            return ConfigResult(self.provider, where, _loaded(path, text), header)

    Plugins.instance().register(CheckedSource)
