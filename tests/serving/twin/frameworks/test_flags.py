"""Command lines as our adapters write them, read as the frameworks would read them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from serving.engines import BaseEngine, Launch, SgLang, TrtLlm, Vllm
from serving.errors import BadFlags
from serving.topology import Topology
from serving.twin.errors import EngineExit, FlagError
from serving.twin.frameworks.flags import framework_of, parse, read
from serving.twin.setup import Setup
from tests.serving.engines.engine_suite import knobs

COMMANDS = {Vllm: "/venv/bin/vllm", SgLang: "/venv/bin/sglang", TrtLlm: "/venv/bin/trtllm-serve"}
H200_BYTES = 141e9


def argv(engine: BaseEngine, **topology: Any) -> list[str]:
    name = COMMANDS[type(engine)]
    launch = Launch(name, "/m", "one", "127.0.0.1", 1234, Topology(**topology), 16_384)
    return engine.command(launch)


VLLM = Setup(
    framework="vllm",
    model="/m",
    served_model="one",
    host="127.0.0.1",
    port=1234,
    context_tokens=16_384,
    max_sequences=1024,
)
SGLANG = replace(
    VLLM,
    framework="sglang",
    max_sequences=4096,
    step_tokens=16_384,
    mixed=False,
    reserve="estimate",
    memory_fraction=0.905,
    block_tokens=64,
)
TRTLLM = replace(
    VLLM,
    framework="trtllm",
    max_sequences=2048,
    chunked=False,
    reserve="all",
    block_tokens=32,
    graphs_upto=128,
)


@pytest.mark.parametrize(
    ("engine", "topology", "setup"),
    [
        (Vllm(), {}, VLLM),
        (Vllm(), {"tensor_parallel": 4}, replace(VLLM, tensor=4)),
        (Vllm(), {"data_parallel": 2}, replace(VLLM, data=2)),
        (
            Vllm(),
            {"tensor_parallel": 2, "data_parallel": 4, "expert_parallel": True},
            replace(VLLM, tensor=2, data=4, expert=8, lockstep=True),
        ),
        (
            Vllm(
                max_num_seqs=256,
                max_num_batched_tokens=4096,
                gpu_memory_utilization=0.95,
                kv_cache_dtype="fp8",
                quantization="fp8",
                enable_prefix_caching=False,
                async_scheduling=False,
                enforce_eager=True,
                stream_interval=8,
                block_size=32,
            ),
            {},
            replace(
                VLLM,
                max_sequences=256,
                step_tokens=4096,
                memory_fraction=0.95,
                kv="fp8",
                weights="fp8",
                prefix_caching=False,
                graphs_upto=0,
                stream_interval=8,
                block_tokens=32,
            ),
        ),
        (
            Vllm(enable_chunked_prefill=False),
            {},
            replace(VLLM, chunked=False, step_tokens=16_384),
        ),
        (
            Vllm(speculative_config='{"method":"mtp","num_speculative_tokens":3}'),
            {},
            replace(VLLM, draft_tokens=3, graphs_upto=128),
        ),
        (
            Vllm(compilation_config='{"cudagraph_capture_sizes":[1,2,64]}'),
            {},
            replace(VLLM, graphs_upto=64),
        ),
        (SgLang(), {}, SGLANG),
        (
            SgLang(),
            {"tensor_parallel": 4, "expert_parallel": True},
            replace(SGLANG, tensor=4, expert=4, memory_fraction=0.903),
        ),
        (SgLang(mem_fraction_static=0.8), {"data_parallel": 2},
         replace(SGLANG, data=2, memory_fraction=0.8)),
        (
            SgLang(attn_dp_size=8, mem_fraction_static=0.8, max_running_requests=512),
            {"tensor_parallel": 8, "expert_parallel": True},
            replace(
                SGLANG,
                tensor=1,
                data=8,
                expert=8,
                lockstep=True,
                memory_fraction=0.8,
                max_sequences=64,
                step_tokens=2048,
                conservativeness=0.3,
            ),
        ),
        (
            SgLang(
                mem_fraction_static=0.8,
                chunked_prefill_size=-1,
                enable_mixed_chunk=True,
                disable_radix_cache=True,
                disable_overlap_schedule=True,
                disable_decode_cuda_graph=True,
                schedule_conservativeness=0.5,
                max_total_tokens=100_000,
                page_size=16,
            ),
            {},
            replace(
                SGLANG,
                memory_fraction=0.8,
                chunked=False,
                mixed=True,
                prefix_caching=False,
                graphs_upto=0,
                conservativeness=0.5,
                kv_tokens_limit=100_000,
                block_tokens=16,
            ),
        ),
        (
            SgLang(
                mem_fraction_static=0.8,
                extra_args=("--speculative-algorithm", "EAGLE", "--speculative-num-steps", "2"),
            ),
            {},
            replace(SGLANG, memory_fraction=0.8, draft_tokens=2, max_sequences=48),
        ),
        (TrtLlm(), {}, TRTLLM),
        (
            TrtLlm(max_batch_size=256, max_num_tokens=4096, enable_chunked_prefill=True),
            {"tensor_parallel": 8, "expert_parallel": True},
            replace(TRTLLM, tensor=8, expert=8, max_sequences=256, step_tokens=4096, chunked=True),
        ),
        (
            TrtLlm(kv_cache_free_gpu_memory_fraction=0.8, backend="pytorch"),
            {},
            replace(TRTLLM, memory_fraction=0.8),
        ),
    ],
)  # fmt: skip
def test_the_adapters_command_gives_this_setup(
    engine: BaseEngine, topology: dict[str, Any], setup: Setup
) -> None:
    assert parse(argv(engine, **topology)) == setup


def test_the_yaml_of_trtllm_overrides_its_flags(tmp_path: Path) -> None:
    path = tmp_path / "options.yaml"
    path.write_text(
        "enable_attention_dp: true\nmax_batch_size: 128\nstream_interval: 10\n"
        "disable_overlap_scheduler: true\nmoe_config: {backend: CUTLASS}\n"
        "kv_cache_config: {free_gpu_memory_fraction: 0.7, dtype: fp8, enable_block_reuse: false}\n"
        "cuda_graph_config: {max_batch_size: 64, enable_padding: true}\n"
        "scheduler_config: {capacity_scheduler_policy: MAX_UTILIZATION}\n"
        "speculative_config: {decoding_type: MTP, num_nextn_predict_layers: 3}\n"
    )
    engine = TrtLlm(extra_llm_api_options=str(path), max_batch_size=999)
    parsed = read(argv(engine, tensor_parallel=4, expert_parallel=True))
    assert parsed.setup == replace(
        TRTLLM,
        data=4,
        expert=4,
        lockstep=True,
        max_sequences=128,
        stream_interval=10,
        memory_fraction=0.7,
        kv="fp8",
        prefix_caching=False,
        graphs_upto=64,
        reserve="none",
        draft_tokens=3,
    )
    assert parsed.without_effect == (
        "moe_config: {'backend': 'CUTLASS'}",
        "disable_overlap_scheduler: True",
    )
    path.write_text("cuda_graph_config: null\n")
    assert parse(argv(engine)).graphs_upto == 0


@pytest.mark.parametrize("kind", ["vllm", "sglang", "trtllm"])
def test_every_knob_of_an_adapter_is_accepted(kind: str) -> None:
    engines = {"vllm": Vllm, "sglang": SgLang, "trtllm": TrtLlm}
    values = {
        "compilation_config": "{}",
        "speculative_config": '{"num_speculative_tokens":1}',
        "block_size": 16,
        "schedule_policy": "lpm",
        "extra_llm_api_options": None,
        "max_num_batched_tokens": 4096,
        "llm_options": {"print_iter_log": True},
        "kv_transfer": None,  # which the emulator refuses
    }
    for name, value in knobs(kind):
        engine = engines[kind](**{name: values.get(name, value)})
        assert parse(argv(engine)).model == "/m", name


def test_flags_without_effect_are_reported() -> None:
    line = argv(Vllm(attention_backend="FLASHINFER", enable_dbo=True))
    assert read(line).without_effect == ("--attention-backend FLASHINFER", "--enable-dbo")
    assert read(argv(SgLang(attention_backend="fa3"))).without_effect == (
        "--attention-backend fa3",
    )
    assert read(argv(TrtLlm(num_postprocess_workers=4))).without_effect == (
        "--num-postprocess-workers 4",
    )


def test_compilation_and_graphs_are_read() -> None:
    graphs = {"cudagraph_mode": "NONE", "fuse_norm_quant": True, "level": 3}
    line = argv(Vllm.model_validate({"compilation": graphs}))
    assert read(line).setup.graphs_upto == 0
    assert read(line).without_effect == (
        "--optimization-level 3",
        '--compilation-config {"pass_config": {"fuse_norm_quant": true}}',
    )
    for asked, upto in (
        ({"cudagraph_decode": "disabled"}, 0),
        ({"cudagraph_sizes": [1, 24]}, 24),
        ({"cudagraph_max_size": 48}, 48),
    ):
        assert parse(argv(SgLang.model_validate({"compilation": asked}))).graphs_upto == upto


def test_defaults_depend_on_the_memory_of_the_gpu() -> None:
    small = parse(argv(SgLang()), H200_BYTES)
    assert (small.step_tokens, small.graphs_upto, small.block_tokens) == (8192, 256, 1)
    assert small.memory_fraction == pytest.approx(0.898, abs=0.03)


BAD: list[tuple[BaseEngine, dict[str, Any]]] = [
    (Vllm(extra_args=("--nope", "1")), {}),
    (Vllm(block_size=7), {}),
    (Vllm(max_num_seqs=512, max_num_batched_tokens=256), {}),
    (Vllm(enable_chunked_prefill=False, max_num_batched_tokens=8192), {}),
    (Vllm(extra_args=("--kv-transfer-config", "{}")), {}),
    (Vllm(speculative_config="{}"), {}),
    (Vllm(compilation_config="["), {}),
    (Vllm(dtype="float32"), {}),
    (SgLang(extra_args=("--nope",)), {}),
    (SgLang(schedule_policy="nope"), {}),
    (SgLang(attn_dp_size=3), {"tensor_parallel": 4}),
    (SgLang(extra_args=("--disaggregation-mode", "prefill")), {}),
    (TrtLlm(extra_args=("--nope", "1")), {}),
    (TrtLlm(extra_args=("again",)), {}),
    (TrtLlm(backend="tensorrt"), {}),
    (TrtLlm(extra_args=("--max_batch_size", "x")), {}),
    (TrtLlm(extra_llm_api_options="/nowhere.yaml"), {}),
]


@pytest.mark.parametrize(("engine", "topology"), BAD)
def test_an_invalid_flag_ends_as_in_the_framework(
    engine: BaseEngine, topology: dict[str, Any]
) -> None:
    with pytest.raises(EngineExit) as ended:
        parse(argv(engine, **topology))
    failure = engine.diagnose(ended.value.exit_code, f"INFO up\n{ended.value}\n")
    assert type(failure) is BadFlags, str(ended.value)
    assert ended.value.exit_code in (1, 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nope: 1", "nope"),
        ("kv_cache_config: {nope: 1}", "kv_cache_config.nope"),
        ("kv_cache_config: 3", "kv_cache_config"),
        ("max_batch_size: many", "max_batch_size"),
        ("enable_attention_dp: 3", "enable_attention_dp"),
        ("scheduler_config: {capacity_scheduler_policy: STATIC_BATCH}", "STATIC_BATCH"),
        ("[1, 2]", "valid dictionary"),
        ("a: [", "extra_llm_api_options"),
    ],
)
def test_an_invalid_yaml_is_reported_with_its_key(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "options.yaml"
    path.write_text(text)
    engine = TrtLlm(extra_llm_api_options=str(path))
    with pytest.raises(EngineExit, match=message) as ended:
        parse(argv(engine))
    assert type(engine.diagnose(1, str(ended.value))) is BadFlags


def test_the_framework_of_a_command_line() -> None:
    python = ["/opt/venv/bin/python3", "-m", "sglang.launch_server", "--model-path", "m"]
    assert framework_of(python) == ("sglang", ["--model-path", "m"])
    assert framework_of(["trtllm-serve", "m"]) == ("trtllm", ["m"])
    for line in ([], ["llama-server", "-m", "x"], ["vllm", "bench"], ["vllm"]):
        with pytest.raises(FlagError):
            framework_of(line)


def test_alternative_spellings_of_flags() -> None:
    assert parse(["vllm", "serve", "m", "--max_num_seqs=64", "-tp", "2"]).max_sequences == 64
    assert parse(["vllm", "serve", "m", "--max-model-len", "16K"]).context_tokens == 16_384
    old = [
        "sglang",
        "serve",
        "--model-path",
        "m",
        "--tp",
        "4",
        "--dp",
        "4",
        "--enable-dp-attention",
    ]
    setup = parse(old)
    assert (setup.tensor, setup.data, setup.lockstep, setup.gpus) == (1, 4, True, 4)
