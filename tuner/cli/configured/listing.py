"""The command `wattfront list`: the groups of the configuration, and the options of one."""

import argparse

from rich.console import Console

from tuner.cli.exit_codes import ExitCode
from tuner.config.compose import groups, options
from tuner.config.errors import ConfigError, suggestion
from tuner.config.study import StudyConfig
from tuner.report.console import say, show, table, words

ABOUT = {
    "experiment": "whole studies: a choice of every group, and settings",
    "fleet": "days of demand for `wattfront fleet`",
}


def list_options(arguments: argparse.Namespace) -> int:
    """Prints the groups, or the options of one. Raises ConfigError for a group that there is not."""
    console, known = Console(), groups(arguments.config_dir)
    if arguments.group is None:
        rows = [
            (name, str(len(options(name, arguments.config_dir))), _about(name)) for name in known
        ]
        columns = words("group"), "options", words("what it chooses", wraps=True)
        show(console, table("", columns, rows))
        say(console, "`wattfront list GROUP` shows the options of a group, chosen by GROUP=OPTION")
        return ExitCode.DONE
    if arguments.group not in known:
        why = suggestion(arguments.group, known, "groups")
        raise ConfigError(f"there is no group {arguments.group!r}; {why}")
    found = options(arguments.group, arguments.config_dir)
    named = [(each.name, each.about) for each in found]
    show(console, table("", [words(arguments.group), words("", wraps=True)], named))
    return ExitCode.DONE


def _about(group: str) -> str:
    field = StudyConfig.model_fields.get(group)
    return ABOUT.get(group, "") if field is None else field.description or ""
