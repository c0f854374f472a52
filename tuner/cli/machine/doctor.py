"""`wattfront doctor`: what this machine has and lacks, or each node of a cluster."""

import argparse
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.text import Text

from serving.engines import ENGINES
from serving.install.doctor import Check, checks
from tuner.cli.exit_codes import ExitCode, Missing
from tuner.cli.machine.shown import one_of
from tuner.config.groups.cluster import ClusterConfig
from tuner.report.console import say, show, table, words
from tuner.study.capacity import ClusterError
from tuner.study.joining.exposure import cluster_check

STATE_COLOURS = {"ok": "green", "warn": "yellow", "missing": "red"}
NODES_NAMED = 3


def doctor(arguments: argparse.Namespace) -> int:
    """Shows what is there and what is lacking. Returns MISSING if a named engine lacks something."""
    for name in arguments.engine:
        one_of("engine", name, ENGINES)
    console, names = Console(), arguments.engine or list(ENGINES)
    found: Mapping[str, Sequence[Check]]
    if arguments.nodes is None:
        found = {"": [cluster_check(), *checks(names)]}
    else:
        found = _of_nodes(arguments.nodes or None, names, console)
    groups = grouped(found)
    columns = [words(""), *(words(header, wraps=True) for header in ("what", "found", "fix"))]
    rows: list[tuple[str | Text, ...]] = [
        (Text(check.state, style=STATE_COLOURS[check.state]), check.name, check.found, check.fix)
        for check in groups
    ]
    if arguments.nodes is not None:
        columns.append(words("nodes", wraps=True))
        rows = [(*row, where) for row, where in zip(rows, groups.values(), strict=True)]
    show(console, table("", columns, rows))
    every = [check for of_node in found.values() for check in of_node]
    missing = any(check.state == "missing" for check in every) and bool(arguments.engine)
    return ExitCode.MISSING if missing else ExitCode.DONE


def _of_nodes(
    address: str | None, names: Sequence[str], console: Console
) -> Mapping[str, list[Check]]:
    from tuner.study.joining.nodes import ask_each
    from tuner.study.ray_cluster import joined

    try:
        with joined(
            ClusterConfig(kind="existing", address=address), lambda line: say(console, line)
        ) as nodes:
            return ask_each(checks, list(names), nodes=nodes)
    except ClusterError as error:
        raise Missing(str(error)) from error


def grouped(found: Mapping[str, Sequence[Check]]) -> dict[Check, str]:
    """Each check with the nodes that have it so: `all 8`, or their names."""
    hosts: dict[Check, list[str]] = {}
    for host, of_node in found.items():
        for check in of_node:
            hosts.setdefault(check, []).append(host)
    return {check: _named(each, len(found)) for check, each in hosts.items()}


def _named(hosts: Sequence[str], count: int) -> str:
    if len(hosts) == count > 1:
        return f"all {count}"
    more = f" and {len(hosts) - NODES_NAMED} more" if len(hosts) > NODES_NAMED else ""
    return ", ".join(hosts[:NODES_NAMED]) + more
