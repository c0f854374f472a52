"""Lines that engines print as they start, as they print them, become seconds."""

import pytest

from serving.engines import LlamaCpp, Nim, SgLang, TrtLlm, Vllm
from serving.telemetry.engine_metrics.startup import StartupLines, StartupTimes, startup_times

# vLLM 0.32.0, TP 2: both ranks log the same phase.
VLLM = """\
(Worker_TP0 pid=1) INFO 11-30 12:00:00 [default_loader.py:501] Loading weights took 20.50 seconds
(Worker_TP1 pid=2) INFO 11-30 12:00:01 [default_loader.py:501] Loading weights took 21.25 seconds
(Worker_TP0 pid=1) INFO 11-30 12:00:01 [runner.py:5150] Model loading took 65.7 GiB memory and 24.1 seconds
(Worker_TP0 pid=1) INFO 11-30 12:00:40 [runner.py:6582] Graph capturing finished in 12 secs, took 0.60 GiB
(EngineCore_DP0 pid=3) INFO 11-30 12:00:41 [core.py:386] init engine (profile, create kv cache, \
warmup model) took 38.75 s (compilation: 20.10 s)
"""
# SGLang 0.5.23: captures of several graphs, one after the other.
SGLANG = """\
[2026-11-30 12:00:00 TP0] Load weight begin. avail mem=178.00 GB
[2026-11-30 12:00:30 TP0] Load weight end. elapsed=30.12 s, type=LlamaForCausalLM, avail mem=100.00 GB.
[2026-11-30 12:00:30 TP1] Load weight end. elapsed=29.80 s, type=LlamaForCausalLM, avail mem=100.00 GB.
[2026-11-30 12:00:40 TP0] Capture target decode CUDA graph end. bs=[1, 2, 4], elapsed=8.50 s, mem usage=1.00 GB
[2026-11-30 12:00:40 TP1] Capture target decode CUDA graph end. bs=[1, 2, 4], elapsed=8.25 s, mem usage=1.00 GB
[2026-11-30 12:00:42 TP0] Capture target prefill CUDA graph end. elapsed=1.50 s, mem usage=0.10 GB
"""
SGLANG_0_5_14 = (
    "[2026-11-30 12:00:40 TP0] Capture cuda graph end. Time elapsed: 4.06 s. mem usage=1.00 GB"
)


@pytest.mark.parametrize(
    ("lines", "log", "times"),
    [
        pytest.param(Vllm.startup_lines, VLLM, StartupTimes(21.25, 38.75), id="vllm"),
        pytest.param(SgLang.startup_lines, SGLANG, StartupTimes(30.12, 10.0), id="sglang"),
        pytest.param(SgLang.startup_lines, SGLANG_0_5_14, StartupTimes(None, 4.06), id="0.5.14"),
        pytest.param(Nim.startup_lines, VLLM, StartupTimes(21.25, 38.75), id="nim-vllm"),
        pytest.param(Nim.startup_lines, SGLANG, StartupTimes(30.12, 10.0), id="nim-sglang"),
        pytest.param(TrtLlm.startup_lines, VLLM, StartupTimes(), id="trtllm"),
        pytest.param(LlamaCpp.startup_lines, "server is listening", StartupTimes(), id="llamacpp"),
        pytest.param(Vllm.startup_lines, "", StartupTimes(), id="empty"),
    ],
)
def test_the_times_of_a_start_are_those_of_its_log(
    lines: StartupLines, log: str, times: StartupTimes
) -> None:
    assert startup_times(log, lines) == times
