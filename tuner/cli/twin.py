"""The command about the twin's step times: which there are, and how more are made."""

import argparse
from collections import defaultdict
from importlib.util import find_spec

from rich.console import Console
from rich.table import Table

from serving.errors import LaunchError
from serving.install import environments
from serving.twin.tables import library
from serving.twin.tables.catalog import MODELS, SYSTEMS
from serving.twin.tables.library import Library
from serving.twin.tables.steptime import TableKey
from tuner.config.errors import ConfigError, suggestion

OK = 0
FRAMEWORKS = ("vllm", "sglang", "trtllm")


class NoOracle(LaunchError):
    """What step times are made from is not installed."""


def twin(arguments: argparse.Namespace) -> int:
    for name, known in (("model", MODELS), ("system", SYSTEMS)):
        value = getattr(arguments, name)
        if value is not None and value not in known:
            raise ConfigError(
                f"--{name}: there is no {value}; {suggestion(value, known, f'{name}s')}"
            )
    return _list(arguments) if arguments.action == "list" else _build(arguments)


def _list(arguments: argparse.Namespace) -> int:
    console, found = Console(highlight=False), Library.installed()
    keys = found.find(arguments.system, arguments.framework, arguments.model)
    if not keys:
        raise ConfigError(
            "there are no step times of that: `wattfront twin list` shows all there are"
        )
    rows: dict[tuple[str, str, str], list[TableKey]] = defaultdict(list)
    for key in keys:
        rows[key.model, key.system, key.framework].append(key)
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("model", "system", "framework", "weights", "cache", "tp/dp/ep"):
        table.add_column(column, overflow="fold")
    for (model, system, framework), group in sorted(rows.items()):
        weights = sorted({key.weights for key in group})
        caches = sorted({key.kv for key in group})
        layouts = sorted({(key.tensor, key.data, key.expert) for key in group})
        told = " ".join("/".join(map(str, layout)) for layout in layouts)
        table.add_row(model, system, framework, " ".join(weights), " ".join(caches), told)
    console.print(table)
    for version in sorted({found.version(system, framework) for _, system, framework in rows}):
        console.print(f"from {version}", soft_wrap=True)
    console.print(f"{len(keys)} tables; all figures made from them are modelled", style="bold")
    return OK


def _build(arguments: argparse.Namespace) -> int:
    if arguments.model is None or arguments.system is None or arguments.framework is None:
        raise ConfigError("twin build needs --model, --system and --framework")
    if find_spec("aiconfigurator_core") is None:
        raise NoOracle(
            "aiconfigurator-core is not installed, from which step times are made: "
            "pip install 'wattfront[twin]'"
        )
    from serving.twin.tables.build import Builder

    if not arguments.layout:
        raise ConfigError("twin build needs a --layout or more: --layout 4/1/1 is TP 4")
    console, builder = Console(highlight=False), Builder(arguments.system, arguments.framework)
    facts = MODELS[arguments.model]
    asked = arguments.weights or facts.precisions
    if strange := set(asked) - set(facts.precisions):
        known = ", ".join(facts.precisions)
        raise ConfigError(
            f"--weights: {facts.key} can't be had in {', '.join(strange)}, but in {known}"
        )
    for weights in asked:
        for kv in ("bf16", "fp8"):
            for layout in arguments.layout:
                where = (arguments.system, arguments.framework, facts.key, weights, kv)
                builder.add(TableKey(*where, *layout))
    made = builder.file()
    folder = environments.home() / "twin"
    folder.mkdir(parents=True, exist_ok=True)
    layouts = "_".join("-".join(map(str, each)) for each in arguments.layout)
    path = folder / f"{facts.key}-{'-'.join(asked)}-{layouts}-{made.name}"
    for absent in made.absent:
        console.print(f"none of {absent.key}: {absent.reason}", style="yellow", soft_wrap=True)
    if not made.entries:
        raise ConfigError("nothing of that was measured: no table was made")
    unfinished = path.with_suffix(".part")
    unfinished.write_bytes(library.encode(made))
    unfinished.replace(path)
    console.print(f"{path}: {len(made.entries)} tables", soft_wrap=True)
    return OK


def layout(text: str) -> tuple[int, int, int]:
    """`4/2/8`: tensor parallel size, data-parallel ranks, expert parallel size."""
    parts = text.split("/")
    if len(parts) != 3 or not all(part.isdecimal() and int(part) for part in parts):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no layout: 4/1/1 is TP 4, 1/8/8 is DP 8 EP 8"
        )
    tensor, data, expert = map(int, parts)
    if tensor * data % expert:
        raise argparse.ArgumentTypeError(f"{text!r}: {expert} does not divide {tensor * data} GPUs")
    return tensor, data, expert
