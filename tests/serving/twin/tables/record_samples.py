"""Records step times of the kernel database for test_recorded_samples.py. Needs the extra `twin`.

python tests/serving/twin/tables/record_samples.py [QUERIES [FILE]]
"""

import json
import random
import sys
from collections.abc import Callable
from dataclasses import astuple
from math import exp, log
from pathlib import Path

from serving.twin.tables.build import double_counted_s, kernel_times
from serving.twin.tables.steptime import TableKey

HERE = Path(__file__).with_name("recorded_samples.json")
Query = tuple[int, float, int, float]
# A spread of systems, frameworks, attention kinds (GQA, sliding windows, MLA, DSA, linear), layouts.
KEYS = (
    TableKey("b300_sxm", "vllm", "llama-3.1-8b", "bf16", "bf16", 1, 1, 1),
    TableKey("b300_sxm", "vllm", "llama-3.1-70b", "nvfp4", "fp8", 4, 1, 1),
    TableKey("b300_sxm", "vllm", "qwen3-32b", "fp8_block", "fp8", 2, 1, 1),
    TableKey("b300_sxm", "vllm", "gpt-oss-120b", "mxfp4", "bf16", 2, 1, 1),
    TableKey("b300_sxm", "vllm", "deepseek-r1", "fp8_block", "fp8", 1, 8, 8),
    TableKey("b300_sxm", "vllm", "minimax-m2.5", "nvfp4", "fp8", 2, 2, 4),
    TableKey("b300_sxm", "vllm", "kimi-k2.5", "nvfp4", "fp8", 4, 1, 4),
    TableKey("b300_sxm", "sglang", "llama-3.1-70b", "fp8", "fp8", 2, 1, 1),
    TableKey("b300_sxm", "sglang", "deepseek-r1", "nvfp4", "fp8", 1, 4, 4),
    TableKey("b300_sxm", "sglang", "qwen3.5-397b-a17b", "fp8_block", "fp8", 4, 1, 1),
    TableKey("b300_sxm", "sglang", "glm-5", "fp8_block", "fp8", 8, 1, 1),
    TableKey("b300_sxm", "trtllm", "llama-3.1-8b", "nvfp4", "fp8", 1, 1, 1),
    TableKey("b300_sxm", "trtllm", "gpt-oss-120b", "mxfp4", "fp8", 1, 4, 4),
    TableKey("b300_sxm", "trtllm", "deepseek-r1", "nvfp4", "fp8", 8, 1, 8),
    TableKey("b200_sxm", "vllm", "qwen3-235b-a22b", "nvfp4", "fp8", 4, 1, 4),
    TableKey("b200_sxm", "sglang", "qwen3-30b-a3b", "bf16", "bf16", 1, 1, 1),
    TableKey("b200_sxm", "trtllm", "llama-3.1-70b", "fp8", "fp8", 4, 1, 1),
    TableKey("b200_sxm", "trtllm", "qwen3-32b", "bf16", "fp8", 8, 1, 1),
    TableKey("h200_sxm", "vllm", "llama-3.1-70b", "fp8", "bf16", 2, 1, 1),
    TableKey("h200_sxm", "vllm", "minimax-m2.5", "fp8_block", "fp8", 4, 1, 1),
    TableKey("h200_sxm", "sglang", "deepseek-r1", "fp8_block", "fp8", 8, 1, 1),
    TableKey("h200_sxm", "trtllm", "gpt-oss-120b", "mxfp4", "bf16", 1, 1, 1),
    TableKey("h200_sxm", "trtllm", "qwen3-32b", "fp8_block", "fp8", 1, 1, 1),
)


def query(draw: random.Random) -> Query:
    """A third each: decode only, prefill only (whole prompts, or a chunk of one), both."""

    def size(low: int, high: int) -> int:
        return round(exp(draw.uniform(log(low), log(high))))

    decodes, context = size(1, 1024), float(size(64, 65536))
    if (kind := draw.randrange(3)) == 0:
        return 0, 0.0, decodes, context
    if draw.random() < 0.5:
        prompts, each = draw.choice((1, 1, 2, 3, 4, 8)), size(64, 8192)
        tokens, attended = prompts * each, each / 2
    else:
        tokens = size(16, 16384)
        attended = size(1, 65536) + tokens / 2
    return (tokens, attended, 0, 0.0) if kind == 1 else (tokens, attended, decodes, context)


def reference(key: TableKey) -> Callable[[Query], float]:
    """Step times from the kernel database itself, as a table should give them."""
    times, attention = kernel_times(key)
    twice_s = double_counted_s(attention)

    def step_s(asked: Query) -> float:
        tokens, attended, decodes, context = asked
        if not tokens:
            return times.alone_s(decodes) + attention.decode_s(decodes, context)
        rows = decodes + round(max(1.0, tokens / (2 * attended)))
        seconds = times.shared_s(tokens + decodes) + times.rows_s(rows)
        seconds += attention.context_s(tokens, attended)
        if decodes:
            seconds += max(0.0, attention.decode_s(decodes, context) - twice_s)
        return seconds

    return step_s


def record(queries: int) -> list[dict[str, object]]:
    samples = list[dict[str, object]]()
    for number, key in enumerate(KEYS):
        draw, step_s = random.Random(number), reference(key)
        asked = [query(draw) for _ in range(queries)]
        samples.append(
            {"key": astuple(key), "queries": [[*one, float(f"{step_s(one):.6g}")] for one in asked]}
        )
    return samples


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    target = Path(sys.argv[2]) if len(sys.argv) > 2 else HERE
    lines = ",\n".join(json.dumps(sample, separators=(",", ":")) for sample in record(count))
    target.write_text(f"[\n{lines}\n]\n")
