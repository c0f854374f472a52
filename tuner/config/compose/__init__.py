"""Composition by Hydra, from YAML groups and overrides to one mapping."""

from tuner.config.compose.choices import DEFAULT_EXPERIMENT, group_of, takes_default, typed_in
from tuner.config.compose.info import INFO, info
from tuner.config.compose.loader import ROOT, conf_dir
from tuner.config.compose.mapping import compose, compose_yaml, to_yaml
from tuner.config.compose.options import Option, groups, options
from tuner.config.compose.sweeps import multirun

__all__ = [
    "DEFAULT_EXPERIMENT",
    "INFO",
    "ROOT",
    "Option",
    "compose",
    "compose_yaml",
    "conf_dir",
    "group_of",
    "groups",
    "info",
    "multirun",
    "options",
    "takes_default",
    "to_yaml",
    "typed_in",
]
