"""Overrides and YAML become one mapping."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from loadgen.workload.yaml_file import BadYaml, first_line
from tuner.config.checks.stored_secrets import stored_secrets
from tuner.config.compose.choices import check_choices, with_default
from tuner.config.compose.loader import ROOT, Loader, opened, parsed
from tuner.config.compose.options import options
from tuner.config.compose.overrides import check_names, words_of
from tuner.config.errors import ConfigError, suggestion

# Hydra's own, of words that it parses and can't apply; it does not say which.
INAPPLICABLE = (ValueError, TypeError, LookupError, AttributeError, AssertionError)


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
        raise ConfigError(f"{error.full_key}: {first_line(error)}") from error
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def compose_yaml(overrides: Sequence[str], config_dir: Path | None = None, root: str = ROOT) -> str:
    """What `--cfg job` prints: composed but not validated, interpolations as written."""
    from omegaconf import OmegaConf

    return OmegaConf.to_yaml(_compose(overrides, config_dir, root))


def to_yaml(data: dict[str, Any]) -> str:
    """The mapping as YAML text."""
    from omegaconf import OmegaConf

    return OmegaConf.to_yaml(OmegaConf.create(data))


def _compose(overrides: Sequence[str], config_dir: Path | None, root: str) -> Any:
    with opened(config_dir) as loader, complaints(loader, root):
        found = parsed(with_default(overrides, root), loader)
        given = words_of(found, root, loader)
        composed = partial(_composed, loader, root)
        check_names(found, composed, given)
        config = composed(given)
    _refuse_secrets(config)
    return config


def _refuse_secrets(config: Any) -> None:
    """Before interpolations are resolved: what comes from the environment is seen only here."""
    from omegaconf import OmegaConf

    plain = OmegaConf.to_container(config)
    if isinstance(plain, dict) and (found := list(stored_secrets(plain))):
        raise ConfigError("\n".join(found))


def _composed(loader: Loader, root: str, words: Sequence[str]) -> Any:
    """What Hydra makes of the words. Raises ConfigError."""
    import hydra
    from hydra.errors import ConfigCompositionException

    try:
        return hydra.compose(root, list(words))
    except ConfigCompositionException:
        check_choices(words, root, loader)
        raise
    except BadYaml:
        raise
    except INAPPLICABLE as error:
        last = _last_applied(root, words).removeprefix("++")
        raise ConfigError(f"{last}: it can't be applied: {first_line(error)}") from error


def _last_applied(root: str, words: Sequence[str]) -> str:
    """The first word that Hydra can't apply."""
    import hydra
    from hydra.errors import HydraException

    for count in range(len(words), 0, -1):
        try:
            hydra.compose(root, list(words[: count - 1]))
        except INAPPLICABLE:
            continue
        except HydraException:
            pass
        return words[count - 1]
    return "the configuration"


@contextmanager
def complaints(loader: Loader, root: str) -> Iterator[None]:
    """Errors of Hydra as ConfigError, one line each."""
    from hydra.errors import HydraException, MissingConfigException
    from omegaconf.errors import OmegaConfBaseException

    try:
        yield
    except MissingConfigException as error:
        raise ConfigError(_no_option(error, loader, root)) from error
    except BadYaml as error:
        raise ConfigError(str(error)) from error
    except RecursionError as error:
        raise ConfigError("the configuration contains itself (defaults, or ${…})") from error
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_composition(error)) from error


def _no_option(error: Any, loader: Loader, root: str) -> str:
    group, _, option = str(error.missing_cfg_file or "").strip("/").partition("/")
    if not option:
        group, option = "", group
    if not group and option == root:
        known = suggestion(root, loader.roots(), "configurations")
        return f"--config-name {root}: there is no such configuration; {known}"
    if not group:
        return first_line(error)
    inside = [each.name for each in options(group, loader.config_dir)] if "/" in option else []
    known = suggestion(option, inside or error.options or loader.get_group_options(group))
    return f"{group}={option}: there is no such {group}; {known}"


def _composition(error: Exception) -> str:
    cause = error.__cause__
    return first_line(error) if cause is None else f"{first_line(error)} ({first_line(cause)})"
