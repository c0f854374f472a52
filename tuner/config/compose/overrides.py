"""Overrides of a study as Hydra has to get them, and mistakes in them that Hydra would let pass."""

from collections.abc import Callable, Sequence
from typing import Any

from tuner.config.compose.loader import Loader
from tuner.config.errors import ConfigError, renamed, suggestion

SETTINGS = {"name", "output_dir"}  # keys of a study that are no groups
# Unions by kind, each kind with keys of its own: a whole value replaces the old one, it is not merged into it.
KINDS = {"workload.arrival"}
LENGTHS = {
    *("workload.input_tokens", "workload.output_tokens"),
    *("workload.conversation.turns", "workload.conversation.next_tokens"),
}  # the same, but a workload may have none
# Mappings of free names, where a mistyped name would be a new entry without a mistake.
NAMED = ("slo.tiers", "workload.arrival.tiers")


def words_of(overrides: Sequence[Any], root: str, loader: Loader) -> list[str]:
    """The words that Hydra gets for parsed overrides. Raises ConfigError."""
    groups = loader.groups(root)
    return [
        word
        for override in overrides
        for word in (*_replaced(override), _settable(override, groups, loader))
    ]


def check_names(
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


def _settable(override: Any, groups: set[str], loader: Loader) -> str:
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
    plain = override.type == OverrideType.CHANGE and not choice
    if plain and top not in groups | SETTINGS:
        raise ConfigError(f"{top}: unknown key; {suggestion(top, groups | SETTINGS, 'keys')}")
    return f"++{line}" if plain else line


def _replaced(override: Any) -> list[str]:
    """What has to come before an override of a whole union: Hydra would merge it into the old value."""
    value = None if override.is_delete() else override.value()
    if not isinstance(value, dict) or "kind" not in value:
        return []
    key = override.key_or_group
    return [f"~{key}"] if key in KINDS else [f"++{key}=null"] if key in LENGTHS else []
