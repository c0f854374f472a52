"""The twin as a process: `python -m serving.twin --system b300_sxm -- vllm serve MODEL …`.

Behind `--` stands the engine's own command line, as its adapter writes it. Exits with 2 for an invalid command
line, and with 1 where the real engine would crash.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, get_args

from pydantic import ValidationError

from serving.twin import api
from serving.twin.config import System, TwinConfig
from serving.twin.engine.assemble import Assembled
from serving.twin.errors import EngineExit, FlagError, NoTable
from serving.twin.frameworks.dialects import DIALECTS, EngineInfo
from serving.twin.frameworks.flags import framework_of
from serving.twin.server.server import say, serve
from serving.twin.setup import Framework


@dataclass(frozen=True, slots=True)
class TwinCommand:
    """A parsed command line: the twin's settings, and the engine's own command."""

    config: TwinConfig
    framework: Framework
    engine: tuple[str, ...]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def main(argv: Sequence[str]) -> int:
    """Serves until it is stopped; returns the exit code."""
    try:
        command = _parse(argv)
    except (ValueError, TypeError, FlagError) as error:
        say(f"twin: {_one_line(error)}")
        return 2
    dialect = DIALECTS[command.framework]
    try:
        assembled, info = _start(command)
    except EngineExit as ended:
        say(ended.output)
        return ended.exit_code
    except NoTable as error:
        say(dialect.flag_error(str(error)))
        return 2
    try:
        return serve(assembled, dialect, info, command.config)
    except OSError as error:
        say(f"OSError: {error}")
        return 1


def _parse(argv: Sequence[str]) -> TwinCommand:
    cut = argv.index("--") if "--" in argv else len(argv)
    parser = _Parser(
        prog="python -m serving.twin",
        description="Emulates an LLM engine on GPUs that this machine does not have.",
        epilog="Behind -- the engine's own command, e.g.: vllm serve MODEL --tensor-parallel-size 4",
    )
    parser.add_argument("--system", choices=get_args(System), help="the emulated GPUs")
    parser.add_argument("--config", metavar="JSON", help="fields of TwinConfig", default="{}")
    arguments = parser.parse_args(argv[:cut])
    settings = _settings(arguments.config)
    if arguments.system:
        settings["system"] = arguments.system
    engine = tuple(argv[cut + 1 :])
    return TwinCommand(TwinConfig.model_validate(settings), framework_of(engine)[0], engine)


def _settings(text: str) -> dict[str, Any]:
    """Raises ValueError."""
    try:
        settings = json.loads(text)
    except RecursionError:
        raise ValueError("--config: nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"--config: not JSON: {error}") from error
    if not isinstance(settings, dict):
        raise ValueError('--config: expected {"system": "b300_sxm"}')
    return settings


def _start(command: TwinCommand) -> tuple[Assembled, EngineInfo]:
    """Assembles the engine and warns of flags without effect. Raises EngineExit, NoTable."""
    config, dialect = command.config, DIALECTS[command.framework]
    parsed = api.read_command(command.engine, config)
    assembled = api.build_emulation(parsed.setup, config)
    for each in parsed.without_effect:
        say(dialect.warning(f"{each} has no effect in the twin"))
    info = EngineInfo(
        setup=parsed.setup,
        kv_tokens=assembled.kv_tokens,
        weights_bytes=assembled.weights_bytes,
        version=assembled.version,
        start_s=config.start_scale * assembled.start_s,
    )
    return assembled, info


def _one_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return next(iter(str(error).splitlines()), type(error).__name__)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
