"""The twin's public interface: from a command line to an emulation, or to the exit of the engine."""

from dataclasses import replace

import pytest

from serving.engines import BaseEngine, SgLang, TrtLlm, Vllm
from serving.errors import BadFlags, OutOfMemory, ServingError
from serving.twin import api
from serving.twin.config import Power, TwinConfig
from serving.twin.engine.assemble import flags_seed
from serving.twin.errors import DeviceMemoryExhausted, EngineExit, FlagError, NoTable
from serving.twin.setup import Framework, Setup

B300 = TwinConfig(system="b300_sxm")
SMALL = "nvidia/Llama-3.1-8B-Instruct-FP8"
COMMANDS: dict[Framework, tuple[str, ...]] = {
    "vllm": ("vllm", "serve", SMALL, "--max-model-len", "4096"),
    "sglang": ("sglang", "serve", "--model-path", SMALL, "--context-length", "4096"),
    "trtllm": ("trtllm-serve", "serve", SMALL, "--max_seq_len", "4096"),
}
ENGINES: dict[Framework, BaseEngine] = {"vllm": Vllm(), "sglang": SgLang(), "trtllm": TrtLlm()}


@pytest.mark.parametrize("framework", api.FRAMEWORKS)
def test_a_command_line_becomes_an_emulation(framework: Framework) -> None:
    parsed = api.read_command(COMMANDS[framework], B300)
    assembled = api.build_emulation(parsed.setup, B300)
    assert (parsed.setup.framework, parsed.without_effect) == (framework, ())
    assert assembled.emulation.gpus == 1
    curve = api.predict_curve(assembled, 1000, 100, [1, 8])
    assert 0 < curve.output_tok_s_gpu[0] < curve.output_tok_s_gpu[1]
    assert api.length_error(parsed.setup, 4000, 96) == ""
    assert "4096" in api.length_error(parsed.setup, 4000, 97)


def test_pools_are_prefill_and_decode_engines() -> None:
    setup = api.read_command(COMMANDS["vllm"], B300).setup
    prefill = replace(setup, tensor=2)
    emulation = api.build_emulation(setup, B300, prefill, engines=3, prefill_engines=2).emulation
    assert (len(emulation.engines), len(emulation.decode_engines)) == (2, 3)
    assert emulation.gpus == 2 * 2 + 3


@pytest.mark.parametrize("framework", api.FRAMEWORKS)
@pytest.mark.parametrize(
    ("changes", "config", "exit_code", "failure"),
    [
        ({"model": "unknown/model"}, B300, 2, BadFlags),
        ({"pipeline": 2}, B300, 2, BadFlags),
        ({}, TwinConfig(system="b300_sxm", power=Power(cap_w=100)), 2, BadFlags),
        ({"model": "deepseek-ai/DeepSeek-R1"}, B300, 1, OutOfMemory),
        ({"memory_fraction": 0.001}, B300, 1, OutOfMemory),
    ],
)
def test_an_engine_that_exits_at_its_start_is_diagnosed_by_its_adapter(
    framework: Framework,
    changes: dict[str, object],
    config: TwinConfig,
    exit_code: int,
    failure: type[ServingError],
) -> None:
    setup = replace(api.read_command(COMMANDS[framework], config).setup, **changes)  # type: ignore[arg-type]
    with pytest.raises(EngineExit) as ended:
        api.build_emulation(setup, config)
    assert ended.value.exit_code == exit_code
    assert type(ENGINES[framework].diagnose(exit_code, ended.value.output)) is failure


@pytest.mark.parametrize("framework", api.FRAMEWORKS)
def test_a_crash_under_load_is_diagnosed_by_its_adapter(framework: Framework) -> None:
    setup = api.read_command(COMMANDS[framework], B300).setup
    log = api.crash_log(setup, DeviceMemoryExhausted(8e9, 4e9))
    assert type(ENGINES[framework].diagnose(1, log)) is OutOfMemory


def test_a_layout_without_measurements_has_no_table() -> None:
    setup = replace(api.read_command(COMMANDS["vllm"], B300).setup, tensor=16)
    with pytest.raises(NoTable, match="not among the tables"):
        api.build_emulation(setup, B300)


def test_invalid_flags_and_unknown_commands_are_different_errors() -> None:
    with pytest.raises(EngineExit, match="--nope"):
        api.read_command((*COMMANDS["vllm"], "--nope"), B300)
    with pytest.raises(FlagError, match="llama-server is not one of"):
        api.read_command(("llama-server", "-m", "x"), B300)


def test_the_noise_of_a_configuration_stays_the_same() -> None:
    """Emulated results in old ledgers are reproducible only while this hash does not change."""
    setup = Setup("vllm", SMALL, "name", "127.0.0.1", 8000, 4096, tensor=2)
    assert flags_seed(setup) == flags_seed(replace(setup, host="", port=0, served_model=""))
    assert flags_seed(setup) == 2407949749
