"""The contract of all engines; of each, golden command lines, and how its log is diagnosed."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from serving.engines import Launch, LlamaCpp, Nim, SgLang, TrtLlm, Vllm
from serving.engines.base import flags
from serving.engines.deaths.diagnosis import Log, last_words
from serving.errors import BadFlags, EngineExited, LaunchError, OutOfMemory, ServingError
from serving.topology import Topology
from tests.serving.engines.engine_suite import EngineSuite


class TestContract(EngineSuite): ...


def launch(executable: str, **topology: Any) -> Launch:
    cores = topology.get("cpus", 0)
    return Launch(
        executable,
        "/m",
        "m",
        "127.0.0.1",
        8000,
        Topology(**topology),
        4096,
        () if cores else ("0", "1"),
    )


def of_revision(executable: str) -> Launch:
    """A model on Hugging Face, at a revision."""
    return replace(launch(executable), model_path="org/model", revision="4f2c9e1")


def test_llamacpp_command_line() -> None:
    engine = LlamaCpp(
        parallel=4,
        threads=2,
        batch_size=512,
        ubatch_size=128,
        cache_type_k="q8_0",
        cache_type_v="q8_0",
        flash_attn="on",
        kv_unified=False,
    )
    assert " ".join(engine.command(launch("llama-server", cpus=2))) == (
        "llama-server --model /m --alias m --host 127.0.0.1 --port 8000 --ctx-size 16384 --metrics "
        "--parallel 4 --batch-size 512 --ubatch-size 128 --threads 2 "
        "--cache-type-k q8_0 --cache-type-v q8_0 --flash-attn on"
    )


def test_vllm_command_line_on_gpus() -> None:
    engine = Vllm(max_num_seqs=256, enable_prefix_caching=False, enforce_eager=True)
    target = launch("vllm", tensor_parallel=2, expert_parallel=True)
    assert " ".join(engine.command(target)) == (
        "vllm serve /m --served-model-name m --host 127.0.0.1 --port 8000 --max-model-len 4096 "
        "--tensor-parallel-size 2 --enable-expert-parallel "
        "--max-num-seqs 256 --no-enable-prefix-caching --enforce-eager"
    )
    assert engine.environ(target) == {
        "CUDA_VISIBLE_DEVICES": "0,1",
        "VLLM_NO_USAGE_STATS": "1",
    }


def test_vllm_on_cpu_uses_the_cores_of_its_topology() -> None:
    engine, target = Vllm(cpu_kvcache_space_gib=2), launch("vllm", cpus=6)
    assert engine.command(target)[-2:] == ["--kv-cache-memory-bytes", "2147483648"]
    assert engine.environ(target) == {
        "CUDA_VISIBLE_DEVICES": "",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "6",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_NO_USAGE_STATS": "1",
    }


def test_sglang_command_line() -> None:
    engine = SgLang(mem_fraction_static=0.85, max_running_requests=512, disable_radix_cache=True)
    target = launch("sglang", tensor_parallel=2, expert_parallel=True)
    assert " ".join(engine.command(target)) == (
        "sglang serve --model-path /m --served-model-name m --host 127.0.0.1 --port 8000 "
        "--context-length 4096 --enable-metrics --tp-size 2 --ep-size 2 "
        "--mem-fraction-static 0.85 --max-running-requests 512 --disable-radix-cache"
    )


def test_sglang_command_line_with_a_python() -> None:
    argv = SgLang().command(launch("/opt/venv/bin/python3"))
    assert argv[:3] == ["/opt/venv/bin/python3", "-m", "sglang.launch_server"]


def test_trtllm_command_line() -> None:
    engine = TrtLlm(max_batch_size=256, max_num_tokens=8192, kv_cache_free_gpu_memory_fraction=0.9)
    assert " ".join(engine.command(launch("trtllm-serve", tensor_parallel=2))) == (
        "trtllm-serve serve /m --served_model_name m --host 127.0.0.1 --port 8000 "
        "--max_seq_len 4096 --tp_size 2 "
        "--max_batch_size 256 --max_num_tokens 8192 --kv_cache_free_gpu_memory_fraction 0.9"
    )


def test_nim_is_configured_by_environment_variables() -> None:
    engine = Nim(max_num_seqs=64, passthrough_args=("--dtype", "auto"), disable_cuda_graph=True)
    target = launch("nim-serve", tensor_parallel=2)
    assert engine.command(target) == ["nim-serve"]
    assert engine.environ(target) == {
        "CUDA_VISIBLE_DEVICES": "0,1",
        "NIM_DISABLE_CUDA_GRAPH": "1",
        "NIM_MAX_MODEL_LEN": "4096",
        "NIM_MODEL_PATH": "/m",
        "NIM_PASSTHROUGH_ARGS": "--dtype auto --max-num-seqs 64",
        "NIM_PIPELINE_PARALLEL_SIZE": "1",
        "NIM_SERVED_MODEL_NAME": "m",
        "NIM_SERVER_PORT": "8000",
        "NIM_TENSOR_PARALLEL_SIZE": "2",
    }


@pytest.mark.parametrize(
    ("engine", "executable", "line"),
    [
        (
            Vllm(),
            "vllm",
            "vllm serve org/model --revision 4f2c9e1 --served-model-name m --host 127.0.0.1 "
            "--port 8000 --max-model-len 4096",
        ),
        (
            SgLang(),
            "sglang",
            "sglang serve --model-path org/model --revision 4f2c9e1 --served-model-name m "
            "--host 127.0.0.1 --port 8000 --context-length 4096 --enable-metrics",
        ),
        (
            TrtLlm(),
            "trtllm-serve",
            "trtllm-serve serve org/model --revision 4f2c9e1 --served_model_name m "
            "--host 127.0.0.1 --port 8000 --max_seq_len 4096",
        ),
    ],
)
def test_a_revision_of_the_model_is_passed_on(engine: Any, executable: str, line: str) -> None:
    assert " ".join(engine.command(of_revision(executable))) == line


@pytest.mark.parametrize(("engine", "name"), [(LlamaCpp(), "llama.cpp"), (Nim(), "NIM")])
def test_engines_without_revisions_refuse_one(engine: Any, name: str) -> None:
    with pytest.raises(LaunchError) as refused:
        engine.command(of_revision("engine"))
    assert refused.value.evidence == (
        f"model.revision=4f2c9e1: {name} has no option for a revision: leave it unset, "
        "and give model.source the path of that revision's files"
    )


DEATHS: list[tuple[Any, str, type[ServingError]]] = [
    (LlamaCpp(), "error: unknown argument: --nope", BadFlags),
    (LlamaCpp(), "error: invalid argument: --nope", BadFlags),
    (LlamaCpp(), "error while handling argument: argument --parallel: invalid int", BadFlags),
    (
        LlamaCpp(),
        "0.00.196 E llama_init_from_model: quantized V cache requires flash_attn to be enabled",
        BadFlags,
    ),
    (
        LlamaCpp(),
        "E ggml_backend_cpu_buffer_type_alloc_buffer: failed to allocate buffer",
        OutOfMemory,
    ),
    (LlamaCpp(), "0.00.005 E srv load_model: failed to load model, '/etc/hostname'", EngineExited),
    (Vllm(), "vllm: error: unrecognized arguments: --nope", BadFlags),
    (Vllm(), "vllm serve: error: argument --block-size: invalid choice: 7", BadFlags),
    (
        Vllm(),
        "(EngineCore pid=7) ValueError: Available memory on node 0 (10.74/12.46 GiB) on startup is "
        "less than desired CPU memory utilization (0.92, 11.46 GiB).",
        OutOfMemory,
    ),
    (
        Vllm(),
        "(EngineCore pid=7) ValueError: No available memory for the cache blocks. Try increasing "
        "`gpu_memory_utilization` when initializing the engine.",
        OutOfMemory,
    ),
    (
        Vllm(),
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.",
        OutOfMemory,
    ),
    (
        SgLang(),
        "RuntimeError: Not enough memory. Please try to increase --mem-fraction-static.",
        OutOfMemory,
    ),
    (SgLang(), "launch_server.py: error: unrecognized arguments: --nope", BadFlags),
    (TrtLlm(), "Error: No such option: --nope", BadFlags),
    (TrtLlm(), "torch.OutOfMemoryError: CUDA out of memory.", OutOfMemory),
    (Nim(), "vllm serve: error: unrecognized arguments: --nope", BadFlags),
]


@pytest.mark.parametrize(("engine", "line", "kind"), DEATHS)
def test_an_exit_is_classified_by_its_log(engine: Any, line: str, kind: type[ServingError]) -> None:
    log = f"INFO starting\n{line}\n  warning: leaked semaphores at shutdown\n"
    error = engine.diagnose(1, log, Path("/the/log"))
    assert type(error) is kind
    assert error.evidence == line
    assert error.log == Path("/the/log")


def test_a_refused_value_is_reported_with_its_field() -> None:
    log = (
        "pydantic_core._pydantic_core.ValidationError: 2 validation errors for SchedulerConfig\n"
        "max_num_batched_tokens\n"
        "  Input should be greater than or equal to 1 [type=greater_than_equal]\n"
        "max_num_seqs\n"
    )
    error = Vllm().diagnose(1, log)
    assert type(error) is BadFlags
    assert error.evidence.endswith(
        "for SchedulerConfig: max_num_batched_tokens: "
        "Input should be greater than or equal to 1 [type=greater_than_equal]"
    )


def test_a_signal_is_reported_with_the_last_line() -> None:
    error = LlamaCpp().diagnose(-9, "loading\nserving\n")
    assert error.evidence == "killed by signal 9; last line: serving"


def test_the_end_of_a_traceback_is_the_evidence() -> None:
    lines = [
        "(EngineCore pid=99) Traceback (most recent call last):",
        '(EngineCore pid=99)   File "x.py", line 3, in f',
        "(EngineCore pid=99) KeyError: 'weights'",
        "shutting down",
    ]
    assert last_words(Log.of("\n".join(lines))) == "KeyError: 'weights'"
    line = "[11/24] ERROR [x.py:3] torch.cuda.CudaError: gone"
    assert last_words(Log.of(line)).endswith("CudaError: gone")


def test_flags_leave_out_none_and_false() -> None:
    assert flags({"--a": 1, "--b": None, "--c": True, "--d": False, "--e": 0.5}) == [
        *("--a", "1"),
        "--c",
        *("--e", "0.5"),
    ]
