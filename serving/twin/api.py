"""The twin's interface for the rest of the product; `config` and `errors` beside it are public too.

`read_command` and `build_emulation` turn an engine's command line into an emulation for any clock;
`predict_curve` gives its steady state in closed form. `Library` has the step-time tables, `build_tables` makes
more.
"""

from collections.abc import Iterable, Sequence
from typing import get_args

from serving.twin.closed_form.steady import SteadyCurve, predict_curve
from serving.twin.config import TwinConfig
from serving.twin.engine.assemble import Assembled, assemble, assemble_disaggregated, resolve_model
from serving.twin.engine.emulation import Emulation, EngineCounts
from serving.twin.engine.request import Request
from serving.twin.errors import DeviceMemoryExhausted, EngineExit, FlagError, TwinOutOfMemory
from serving.twin.frameworks import flags
from serving.twin.frameworks.assumptions import accuracy, assumptions, known_wrong
from serving.twin.frameworks.dialects import DIALECTS, EngineInfo
from serving.twin.frameworks.flags import ParsedCommand
from serving.twin.server.requests import read_prompt
from serving.twin.setup import Framework, Setup
from serving.twin.tables.catalog import MODELS, SYSTEMS, WEIGHT_BYTES, ModelFacts, SystemFacts
from serving.twin.tables.library import Library, TableFile, encode
from serving.twin.tables.steptime import TableKey

__all__ = [
    "FRAMEWORKS",
    "MODELS",
    "SYSTEMS",
    "WEIGHT_BYTES",
    "Assembled",
    "Emulation",
    "EngineCounts",
    "Library",
    "ModelFacts",
    "ParsedCommand",
    "Request",
    "Setup",
    "SteadyCurve",
    "SystemFacts",
    "TableFile",
    "TableKey",
    "accuracy",
    "assumptions",
    "build_emulation",
    "build_tables",
    "crash_log",
    "encode_tables",
    "known_wrong",
    "length_error",
    "predict_curve",
    "read_command",
    "read_prompt",
    "resolve_model",
    "startup_log",
]

FRAMEWORKS: tuple[Framework, ...] = get_args(Framework)
encode_tables = encode


def read_command(argv: Sequence[str], config: TwinConfig) -> ParsedCommand:
    """An engine's command line as its framework would read it on `config.system`.

    Raises EngineExit with the framework's own complaint; FlagError where it is no framework's.
    """
    return flags.read(argv, SYSTEMS[config.system].memory_bytes)


def build_emulation(
    setup: Setup,
    config: TwinConfig,
    prefill: Setup | None = None,
    *,
    engines: int = 1,
    prefill_engines: int = 1,
) -> Assembled:
    """The emulation of so many engines; with `prefill`, of a pool of each kind, that of `setup` decodes.

    Raises EngineExit where the real engine would exit at its start, and NoTable.
    """
    dialect = DIALECTS[setup.framework]
    try:
        if prefill is None:
            return assemble(setup, config, engines=engines)
        return assemble_disaggregated(
            prefill, setup, config, prefill_engines=prefill_engines, decode_engines=engines
        )
    except FlagError as error:
        raise EngineExit(dialect.flag_error(str(error)), 2) from error
    except TwinOutOfMemory as error:
        raise EngineExit(dialect.startup_oom(setup, error), 1) from error


def startup_log(setup: Setup, assembled: Assembled) -> str:
    """What the engine would print as it starts."""
    info = EngineInfo(
        setup, assembled.kv_tokens, assembled.weights_bytes, assembled.version, assembled.start_s
    )
    return "\n".join(line for _, line in DIALECTS[setup.framework].startup_log(info))


def crash_log(setup: Setup, error: DeviceMemoryExhausted) -> str:
    """What the engine would print as it crashes under load."""
    return DIALECTS[setup.framework].step_oom(error)


def length_error(setup: Setup, prompt_tokens: int, output_tokens: int) -> str:
    """Why the engine would reject a request of these lengths; empty if it would not."""
    return DIALECTS[setup.framework].length_error(setup, prompt_tokens, output_tokens)


def build_tables(keys: Iterable[TableKey]) -> TableFile:
    """Step-time tables from the kernel database, for one or more keys of one system and framework.

    Needs the extra `twin`. Keys without measurements are in the file's `missing`, with the reason.
    """
    from serving.twin.tables.build import Builder

    first, *others = keys
    builder = Builder(first.system, first.framework)
    for key in (first, *others):
        builder.add(key)
    return builder.file()
