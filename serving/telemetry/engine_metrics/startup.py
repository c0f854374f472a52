"""The times of an engine's start that its log has: loading the weights, and warming up. Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StartupLines:
    """Patterns of lines that end a phase, with a group `s` of seconds; the first that matches decides.

    Ranks log the same phase at the same time, so the longest counts; phases that differ in a group `what` come
    one after the other, so they add up.
    """

    weights: tuple[str, ...] = ()
    warmup: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StartupTimes:
    """Seconds; None where the log does not say."""

    weight_load_s: float | None = None
    engine_warmup_s: float | None = None


def startup_times(log: str, lines: StartupLines) -> StartupTimes:
    """The times in a log."""
    return StartupTimes(_seconds(log, lines.weights), _seconds(log, lines.warmup))


def _seconds(log: str, patterns: Sequence[str]) -> float | None:
    for pattern in patterns:
        longest: dict[str, float] = {}
        for match in re.finditer(pattern, log):
            groups = match.groupdict()
            what = groups.get("what") or ""
            longest[what] = max(longest.get(what, 0.0), float(groups["s"]))
        if longest:
            return sum(longest.values())
    return None


_S = r"(?P<s>\d+(?:\.\d+)?)"
# 0.32.0: model_executor/model_loader/default_loader.py, v1/worker/gpu_model_runner.py, v1/engine/core.py. The
# warm-up is profiling, the KV cache, torch.compile and CUDA graphs. 2026-11-30.
VLLM = StartupLines(
    (rf"Loading weights took {_S} seconds", rf"Model loading took .* and {_S} seconds"),
    (
        rf"init engine \(profile, create kv cache, warmup model\) took {_S} s",
        rf"Graph capturing finished in {_S} secs",
    ),
)
# 0.5.23: srt/model_executor/model_runner.py, model_runner_components/cuda_graph_setup.py and
# speculative/eagle_worker_v2.py; "Time elapsed" until 0.5.14. The warm-up is the capture of CUDA graphs.
SGLANG = StartupLines(
    (rf"Load weight end\. elapsed={_S} s",),
    (rf"Capture (?P<what>[^.\n]+?) end\. (?:.*?elapsed=|Time elapsed: ){_S} s",),
)
# The engine inside the container is one of them.
NIM = StartupLines(VLLM.weights + SGLANG.weights, VLLM.warmup + SGLANG.warmup)
