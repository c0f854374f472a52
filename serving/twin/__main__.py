"""The twin as a process: `python -m serving.twin --system b300_sxm -- vllm serve MODEL …`.

Behind `--` stands the framework's own command line, as its adapter writes it. Ends with 2 where a
flag is wrong, with 1 where the real engine would die at its start.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn, get_args

from pydantic import ValidationError

from serving.twin.config import System, TwinConfig
from serving.twin.engine.assemble import Assembled, TwinOutOfMemory, assemble
from serving.twin.frameworks.faces import FACES, Facts
from serving.twin.frameworks.flags import Refused, framework_of, read
from serving.twin.server.server import say, serve
from serving.twin.setup import FlagError, Framework
from serving.twin.tables.catalog import SYSTEMS
from serving.twin.tables.library import DoesNotFit, NoTable


@dataclass(frozen=True, slots=True)
class Order:
    """What was asked for: a machine, and a framework's command line."""

    config: TwinConfig
    framework: Framework
    command: tuple[str, ...]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def main(argv: Sequence[str]) -> int:
    try:
        order = _order(argv)
    except (ValueError, TypeError, FlagError) as error:
        say(f"twin: {_one_line(error)}")
        return 2
    started = _start(order)
    if isinstance(started, int):
        return started
    assembled, facts = started
    try:
        return serve(assembled, FACES[order.framework], facts, order.config)
    except OSError as error:
        say(f"OSError: {error}")
        return 1


def _order(argv: Sequence[str]) -> Order:
    cut = argv.index("--") if "--" in argv else len(argv)
    parser = _Parser(
        prog="python -m serving.twin",
        description="Emulates an LLM engine on GPUs that are not here.",
        epilog="Behind -- the engine's own command, say: vllm serve MODEL --tensor-parallel-size 4",
    )
    parser.add_argument("--system", choices=get_args(System), help="the GPUs that it stands for")
    parser.add_argument("--config", metavar="JSON", help="of TwinConfig", default="{}")
    told = parser.parse_args(argv[:cut])
    settings = json.loads(told.config)
    if told.system:
        settings["system"] = told.system
    command = tuple(argv[cut + 1 :])
    return Order(TwinConfig.model_validate(settings), framework_of(command)[0], command)


def _start(order: Order) -> tuple[Assembled, Facts] | int:
    """What is to be served; or how the engine dies: it has said why, and this is its exit code."""
    config, face, memory_bytes = order.config, FACES[order.framework], _memory_bytes(order)
    try:
        parsed = read(order.command, memory_bytes)
    except Refused as refused:
        say(str(refused))
        return refused.exit_code
    try:
        assembled = assemble(parsed.setup, config)
    except (TwinOutOfMemory, DoesNotFit) as error:
        if isinstance(error, DoesNotFit):  # how much is missing was not kept with the table
            error = TwinOutOfMemory(memory_bytes, memory_bytes, "weights")
        say(face.died(parsed.setup, error))
        return 1
    except (FlagError, NoTable) as error:
        say(face.bad_flag(str(error)))
        return 2
    for each in parsed.without_effect:
        say(face.noted(f"{each} has no effect in the twin"))
    facts = Facts(
        setup=parsed.setup,
        kv_tokens=assembled.kv_tokens,
        weights_bytes=assembled.weights_bytes,
        version=assembled.version,
        start_s=config.start_scale * assembled.start_s,
    )
    return assembled, facts


def _memory_bytes(order: Order) -> float:
    return float(SYSTEMS[order.config.system].memory_bytes)


def _one_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return str(error).splitlines()[0]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
