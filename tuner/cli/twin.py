"""The command about step times of emulated machines: lists the tables, or builds more."""

import argparse
from collections import defaultdict
from importlib.util import find_spec

from rich.console import Console

from serving.errors import LaunchError
from serving.install import environments
from serving.twin import api
from serving.twin.api import (
    MODELS,
    SYSTEMS,
    Library,
    TableKey,
    build_tables,
    encode_tables,
)
from tuner.cli.exit_codes import ExitCode
from tuner.config.errors import ConfigError, suggestion
from tuner.metrics.notation import counted
from tuner.report.console import say, show, table, words

FRAMEWORKS = api.FRAMEWORKS


class NoOracle(LaunchError):
    """The package that step times are computed with is not installed."""


def twin(arguments: argparse.Namespace) -> int:
    """Lists the step-time tables, or builds one. Raises ConfigError."""
    for name, known in (("model", MODELS), ("system", SYSTEMS)):
        value = getattr(arguments, name)
        if value is not None and value not in known:
            raise ConfigError(
                f"--{name}: there is no {value!r}; {suggestion(value, known, f'{name}s')}"
            )
    return _list(arguments) if arguments.action == "list" else _build(arguments)


def _list(arguments: argparse.Namespace) -> int:
    console, found = Console(), Library.installed()
    keys = found.find(arguments.system, arguments.framework, arguments.model)
    if not keys:
        raise ConfigError("no step times match: `wattfront twin list` without options shows all")
    rows: dict[tuple[str, str, str], list[TableKey]] = defaultdict(list)
    for key in keys:
        rows[key.model, key.system, key.framework].append(key)
    lines = []
    for (model, system, framework), group in sorted(rows.items()):
        weights = sorted({key.weights for key in group})
        caches = sorted({key.kv for key in group})
        layouts = sorted({(key.tensor, key.data, key.expert) for key in group})
        shown = " ".join("/".join(map(str, layout)) for layout in layouts)
        lines.append((model, system, framework, " ".join(weights), " ".join(caches), shown))
    columns = [words(header) for header in ("model", "system", "framework")]
    columns += [words(header, wraps=True) for header in ("weights", "cache", "tp/dp/ep")]
    show(console, table("", columns, lines))
    for version in sorted({found.version(system, framework) for _, system, framework in rows}):
        say(console, f"from {version}")
    say(console, f"{counted(len(keys), 'table')}; all figures made from them are modelled", "bold")
    return ExitCode.DONE


def _build(arguments: argparse.Namespace) -> int:
    if arguments.model is None or arguments.system is None or arguments.framework is None:
        raise ConfigError("twin build needs --model, --system and --framework")
    if find_spec("aiconfigurator_core") is None:
        raise NoOracle(
            "step times are computed with aiconfigurator-core, which is not installed: "
            "pip install 'wattfront[twin]'"
        )
    if not arguments.layout:
        raise ConfigError("twin build needs at least one --layout: --layout 4/1/1 is TP 4")
    console = Console()
    facts = MODELS[arguments.model]
    asked = arguments.weights or facts.precisions
    if unknown := sorted(set(asked) - set(facts.precisions)):
        known = ", ".join(facts.precisions)
        raise ConfigError(
            f"--weights: {facts.key} is not available in {', '.join(unknown)}; available: {known}"
        )
    made = build_tables(
        TableKey(arguments.system, arguments.framework, facts.key, weights, kv, *layout)
        for weights in asked
        for kv in ("bf16", "fp8")
        for layout in arguments.layout
    )
    folder = environments.home() / "twin"
    folder.mkdir(parents=True, exist_ok=True)
    layouts = "_".join("-".join(map(str, each)) for each in arguments.layout)
    path = folder / f"{facts.key}-{'-'.join(asked)}-{layouts}-{made.name}"
    for missing in made.missing:
        say(console, f"no table for {missing.key}: {missing.reason}", "yellow")
    if not made.entries:
        raise ConfigError("none of these was measured: no table was built")
    unfinished = path.with_suffix(".part")
    unfinished.write_bytes(encode_tables(made))
    unfinished.replace(path)
    say(console, f"{path}: {counted(len(made.entries), 'table')}", whole=True)
    return ExitCode.DONE


def layout(text: str) -> tuple[int, int, int]:
    """Parses `4/2/8`: tensor-parallel size, data-parallel ranks, expert-parallel size."""
    parts = text.split("/")
    if len(parts) != 3 or not all(part.isdecimal() and int(part) for part in parts):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a layout: 4/1/1 is TP 4, 1/8/8 is DP 8 EP 8"
        )
    tensor, data, expert = map(int, parts)
    if tensor * data % expert:
        raise argparse.ArgumentTypeError(f"{text!r}: {expert} does not divide {tensor * data} GPUs")
    return tensor, data, expert
