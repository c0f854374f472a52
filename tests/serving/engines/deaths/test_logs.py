"""Whole logs: the cause amid the prefixes of loggers, above lines that pass it on, and beside weaker ones."""

from pathlib import Path
from typing import Any

import pytest

from serving.engines import ENGINES
from serving.engines.deaths.diagnosis import Log, diagnose, killed
from serving.errors import (
    BadFlags,
    CudaFailed,
    EngineExited,
    GpuFailed,
    GpuOccupied,
    OutOfMemory,
    ServingError,
    SharedMemoryExhausted,
)
from tests.serving.engines.deaths.test_lines import LINES

PREFIXES = {
    "vllm": "(EngineCore pid=123) ERROR 11-29 10:00:00 [core.py:1234] ",
    "nim": "\x1b[0;36m(EngineCore_DP0 pid=123)\x1b[0;0m ERROR 11-29 10:00:00 [core.py:1234] ",
    "sglang": "[2026-11-29 10:00:00 TP0] ",
    "trtllm": "[11/29/2026-10:00:00] [TRT-LLM] [E] ",
    "llamacpp": "0.04.439.323 E ",
}
# What follows when a process of the engine has died.
WRAPPERS = {
    "vllm": (
        "(APIServer pid=99) Traceback (most recent call last):\n"
        '(APIServer pid=99)   File "/env/vllm/v1/engine/utils.py", line 1432, in wait_for_engine_startup\n'
        "(APIServer pid=99) RuntimeError: Engine core initialization failed. See root cause above. "
        "Failed core proc(s): {'EngineCore_DP0': 1}\n"
        "/usr/lib/python3.11/multiprocessing/resource_tracker.py:254: UserWarning: resource_tracker: There "
        "appear to be 1 leaked shared_memory objects to clean up at shutdown\n"
    ),
    "sglang": (
        "[2026-11-29 10:00:01] Received sigquit from a child process. It usually means the child failed.\n"
        "[2026-11-29 10:00:01] kill_process_tree called: parent_pid=22001\n"
    ),
    "trtllm": (
        "[11/29/2026-10:00:01] [TRT-LLM] [E] Executor worker died during initialization\n"
        "Traceback (most recent call last):\n"
        '  File "/usr/local/bin/trtllm-serve", line 8, in <module>\n'
        "RuntimeError: Executor worker returned error\n"
    ),
    "llamacpp": "error: Failed to init server, please check the input params.\n",
}
WRAPPERS["nim"] = WRAPPERS["vllm"]
FRAMES = (
    "Traceback (most recent call last):",
    '  File "/env/engine/core.py", line 7, in run_engine_core',
    "    raise error",
)


def told(engine: str, log: str, exit_code: int = 1) -> ServingError:
    return diagnose(ENGINES[engine].deaths, exit_code, log)


def whole(row: dict[str, Any]) -> str:
    prefix, engine = PREFIXES[row["engine"]], row["engine"]
    before = (row.get("before") or "").splitlines()
    frames = [] if any(line.startswith("Traceback") for line in before) else FRAMES
    lines = [*before, *frames, *row["line"].splitlines(), *(row.get("after") or "").splitlines()]
    logged = [line if line.startswith("kernel: ") else prefix + line for line in lines]
    return "\n".join(["INFO starting", *logged, ""]) + WRAPPERS[engine]


@pytest.mark.parametrize("row", LINES, ids=[f"{row['group']}-{row['error']}" for row in LINES])
def test_a_line_is_found_amid_a_whole_log(row: dict[str, Any]) -> None:
    found = told(row["engine"], whole(row))
    assert (type(found).__name__, found.phase) == (row["error"], row["phase"])
    for wrapper in (
        "root cause above",
        "sigquit",
        "kill_process_tree",
        "worker returned error",
        "leaked",
    ):
        assert wrapper not in found.evidence
    assert found.remedy


OOM = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."


def test_a_hardware_error_outranks_the_lack_of_memory_that_follows_it() -> None:
    ecc = "CUDA error: uncorrectable ECC error encountered"
    for log in (f"{ecc}\n{OOM}", f"{OOM}\n{ecc}\n{OOM}"):
        assert type(told("vllm", log)) is GpuFailed


def test_a_failed_kernel_outranks_the_links_that_other_ranks_lose_by_it() -> None:
    illegal = "torch.AcceleratorError: CUDA error: an illegal memory access was encountered"
    log = (
        f"(Worker_TP1 pid=8) {illegal}\n"
        "[rank0]:[E1129 10:00:00.1 ProcessGroupNCCL.cpp:632] [Rank 0] Watchdog caught collective operation "
        "timeout: WorkNCCL(SeqNum=42, OpType=ALLREDUCE)\n"
        "RuntimeError: NCCL error: remote process exited or there was a network error\n"
        "RuntimeError: [/gloo/transport/tcp/pair.cc:537] Read error [10.0.0.2]:4: Connection reset by peer\n"
        + WRAPPERS["vllm"]
    )
    found = told("vllm", log)
    assert (type(found), found.domain) == (CudaFailed, "configuration")
    assert found.evidence == f"(Worker_TP1 pid=8) {illegal}"


def test_a_warning_that_there_is_no_driver_is_no_cause() -> None:
    log = (
        "UserWarning: CUDA initialization: Found no NVIDIA driver on your system.\nKeyError: 'x'\n"
    )
    assert type(told("vllm", log)) is EngineExited


@pytest.mark.parametrize(
    "survived",
    [
        "OSError: [Errno 98] Address already in use",
        "401 Client Error. (Request ID: Root=1-2)",
        "WARNING 11-29 10:00:00 [x.py:1] NCCL error: remote process exited",
    ],
)
def test_what_an_engine_survived_is_not_what_it_died_of(survived: str) -> None:
    assert (
        type(told("vllm", f"{survived}\nINFO 11-29 10:00:00 [a.py:1] going on\n{OOM}"))
        is OutOfMemory
    )


def test_an_occupied_gpu_is_no_lack_of_memory() -> None:
    line = "Free memory on device cuda:0 (1.0/178.35 GiB) on startup is less than desired"
    found = told("vllm", f"ValueError: {line}\n{OOM}")
    assert type(found) is GpuOccupied
    assert found.domain == "node"


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "line",
    [
        "nvcc fatal   : Unsupported gpu architecture 'compute_103'",
        "nvcc: error: unsupported gpu architecture 'compute_103a'",
        "/root/.cache/vllm/torch_compile_cache/ab/x.cpp:12:5: error: no matching function",
        "/env/sglang/jit/kernel.cu(8): error: identifier is undefined",
    ],
)
def test_a_compiler_s_error_is_no_wrong_flag(engine: str, line: str) -> None:
    found = told(engine, f"INFO compiling\n{line}\n")
    assert type(found) is EngineExited
    assert line in found.evidence


def test_a_memory_error_that_was_handled_is_no_lack_of_memory() -> None:
    log = (
        "(APIServer pid=9) Traceback (most recent call last):\n"
        '(APIServer pid=9)   File "cache.py", line 3, in load\n'
        "(APIServer pid=9) MemoryError\n"
        "(APIServer pid=9) INFO 11-29 10:00:00 [cache.py:9] going on without the cache\n"
        "(EngineCore pid=8) Traceback (most recent call last):\n"
        '(EngineCore pid=8)   File "core.py", line 9, in run\n'
        "(EngineCore pid=8)     except (MemoryError, OSError):\n"
        "(EngineCore pid=8) KeyError: 'weights'\n"
    )
    found = told("vllm", log)
    assert (type(found), found.evidence) == (EngineExited, "exit code 1: KeyError: 'weights'")


def test_an_error_that_led_to_another_one_is_the_cause() -> None:
    log = (
        "Traceback (most recent call last):\n"
        '  File "a.py", line 1, in f\n'
        "MemoryError\n\n"
        "The above exception was the direct cause of the following exception:\n\n"
        "Traceback (most recent call last):\n"
        '  File "b.py", line 1, in g\n'
        "RuntimeError: could not load\n"
    )
    assert type(told("sglang", log)) is OutOfMemory


def test_a_package_that_is_only_optional_is_no_cause() -> None:
    log = (
        "WARNING 11-29 10:00:00 [x.py:1] ModuleNotFoundError: No module named 'flash_attn'\n"
        "(EngineCore pid=8) KeyError: 'weights'\n"
    )
    assert type(told("vllm", log)) is EngineExited


def test_a_slow_worker_is_no_hang_where_something_else_is_said() -> None:
    log = "No available shared memory broadcast block found in 60 seconds.\nKeyError: 'x'\n"
    assert told("vllm", log).evidence == "exit code 1: KeyError: 'x'"


def test_flags_that_only_the_code_names_are_known_by_the_frame() -> None:
    log = (
        "Traceback (most recent call last):\n"
        '  File "/env/vllm/engine/arg_utils.py", line 3, in create_engine_config\n'
        '    raise ValueError("no")\n'
        "ValueError: this can't be combined with that\n"
    )
    assert type(told("vllm", log)) is BadFlags
    assert type(told("vllm", log.replace("engine/arg_utils", "v1/core/sched"))) is EngineExited


# Logs of engines that were made to die on a CPU (2026-11-30), with other paths: vLLM 0.32.0, and llama.cpp
# of xllamacpp 2026.10.11549.
RECORDED = {
    "llamacpp_no_memory": ("OutOfMemory", "load", "failed to allocate"),
    "vllm_cpu_memory": ("OutOfMemory", "start", "less than desired CPU memory utilization"),
    "vllm_no_weights": ("WeightsMissing", "load", "Cannot find any model weights with"),
    "vllm_kv_cache": ("KvCacheTooSmall", "load", "the model's max seq len (2048)"),
}


@pytest.mark.parametrize("name", RECORDED)
def test_the_log_of_a_provoked_death_is_told(name: str) -> None:
    failure, phase, evidence = RECORDED[name]
    log = (Path(__file__).parent / "recorded" / f"{name}.txt").read_text()
    found = told(name.partition("_")[0], log)
    assert (type(found).__name__, found.phase) == (failure, phase)
    assert evidence in found.evidence
    assert found.remedy


def test_a_bus_error_is_a_lack_of_shared_memory() -> None:
    found = told("vllm", "INFO serving", exit_code=-7)
    assert type(found) is SharedMemoryExhausted
    assert "--shm-size" in found.remedy


def test_a_ready_engine_dies_under_load_whatever_the_end_of_its_log_shows() -> None:
    found = diagnose(ENGINES["vllm"].deaths, 1, OOM, phase="under load")
    assert found.phase == "under load"
    assert "gpu_memory_utilization" in found.remedy


def test_a_log_of_wrappers_alone_has_no_evidence() -> None:
    found = told("sglang", WRAPPERS["sglang"])
    assert found.evidence == "exit code 1: the log is empty"


def test_only_a_kill_makes_the_kernel_s_word_count() -> None:
    assert killed(-9, "")
    assert killed(1, "scheduler_0 crashed with exit code -9.")
    assert not killed(1, "exit code 1")


def test_colours_and_prefixes_are_no_part_of_a_line() -> None:
    log = Log.of(
        "\x1b[0;36m(Worker_TP0 pid=7)\x1b[0;0m INFO 11-29 10:00:00 [a.py:1] up\n[Errno 98] x"
    )
    assert log.bare == ("up", "[Errno 98] x")
