"""The headline, DeepSeek-R1 FP8 on 36 B300 at 3.5 million tokens/s/MW, and neighbouring deployments. Modelled.

The published run: Dynamo with TensorRT-LLM, 28 prefill and 8 decode GPUs, 8k/1k, 3,072 users. Parallelism is as
published; queue sizes and token budgets were not published and are assumed.
"""

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from serving.twin.engine.assemble import assemble, assemble_disaggregated
from serving.twin.errors import NoTable, TwinOutOfMemory
from serving.twin.tables.library import Library
from tests.benchmarks.tables import table
from tests.benchmarks.twin.points import PUBLISHED, Config
from tests.benchmarks.twin.runs import Outcome, outcome_of, requests_of, setup_of, twin
from tests.benchmarks.twin.scores import error
from tests.serving.twin.emulations import run_closed_loop

KW = ((2.17, "to July 2026"), (1.90, "since"))
SYSTEM, FRAMEWORK, MODEL = "b300_sxm", "trtllm", "deepseek-r1"


@dataclass(frozen=True, slots=True)
class Pool:
    """Equal engines of `data` ranks of `tensor` GPUs each."""

    engines: int
    tensor: int
    data: int
    expert: int

    @property
    def gpus(self) -> int:
        return self.engines * self.tensor * self.data


@dataclass(frozen=True, slots=True)
class Deployment:
    """Prefill and decode engines under a load; without prefill engines the others do both."""

    prefill: Pool | None
    decode: Pool
    users: int
    weights: str = "fp8_block"
    isl: int = 8192
    osl: int = 1024

    @property
    def gpus(self) -> int:
        return self.decode.gpus + (self.prefill.gpus if self.prefill else 0)

    @property
    def name(self) -> str:
        if not self.prefill:
            return f"aggregated, {self.decode.gpus} GPUs"
        return f"{self.prefill.gpus}P + {self.decode.gpus}D"

    def config(self, pool: Pool) -> Config:
        layout = (pool.tensor, pool.data, pool.expert)
        return Config(
            SYSTEM, FRAMEWORK, MODEL, self.weights, *layout, self.isl, self.osl, self.users
        )


DP8 = Pool(1, 1, 8, 1)  # attention DP8, experts tensor-parallel, as published
HEADLINE = Deployment(Pool(7, 1, 4, 1), DP8, 3072)
USERS = (32, 128, 512, 1024, 2048, 3072)
MAX_DECODES = 1024  # the largest decode batch in InferenceX's TensorRT-LLM recipes
NEIGHBOURS = [Deployment(Pool(p, 1, 4, 1), DP8, users) for p in (1, 2, 4, 7) for users in USERS]
NEIGHBOURS += [Deployment(None, DP8, users) for users in (8, 32, 128, 512, 1024)]


@dataclass(frozen=True, slots=True)
class Published:
    tokens_s_gpu: float
    tokens_s_user: float
    ttft_s: float
    p99_ttft_s: float


# InferenceX's dashboard, run of 12 February 2026; the wheel's sample has the means of the same run:
# TTFT 7.47 s, TPOT 88.3 ms.
PUBLISHED_RUN = Published(7727, 11.0, 2.16, 77.4)


def others() -> list[tuple[Deployment, Published]]:
    """The newest disaggregated TensorRT-LLM runs without speculation; [] without the file."""
    if not PUBLISHED.exists():
        return []
    found: dict[Deployment, tuple[str, Published]] = {}
    for row in csv.DictReader(PUBLISHED.read_text().splitlines()):
        wanted = ("b300", "dynamo-trt", "dsr1", "none", "True")
        names = ("hardware", "framework", "model", "spec", "disagg")
        if tuple(row[name] for name in names) != wanted:
            continue
        deployment = Deployment(
            _pool(row, "prefill"),
            _pool(row, "decode"),
            int(float(row["conc"])),
            "nvfp4" if row["precision"] == "fp4" else "fp8_block",
            int(float(row["isl"])),
            int(float(row["osl"])),
        )
        published = Published(
            float(row["tput_per_gpu_tok_s"]),
            1e3 / float(row["median_tpot_ms"]),
            float(row["median_ttft_s"]),
            float(row["p99_ttft_s"]),
        )
        if deployment not in found or row["date"] >= found[deployment][0]:
            found[deployment] = row["date"], published
    pairs = [(deployment, published) for deployment, (_, published) in found.items()]
    return sorted(pairs, key=lambda pair: -pair[1].tokens_s_gpu)


def _pool(row: Mapping[str, str], kind: str) -> Pool:
    gpus, ranks = int(float(row[f"{kind}_tp"])), row[f"{kind}_dpa"] == "True"
    engines = int(float(row[f"num_{kind}_gpu"])) // gpus
    return Pool(engines, 1 if ranks else gpus, gpus if ranks else 1, int(float(row[f"{kind}_ep"])))


def simulate(deployment: Deployment, library: Library) -> Outcome:
    """Runs a deployment. Decode engines have room for twice the users, at most MAX_DECODES a rank."""
    config = deployment.config(deployment.decode)
    ranks = deployment.decode.engines * deployment.decode.data
    room = min(MAX_DECODES, max(16, 2 * -(-deployment.users // ranks)))
    decode = replace(setup_of(config), max_sequences=room)
    try:
        if deployment.prefill:
            assembled = assemble_disaggregated(
                replace(setup_of(deployment.config(deployment.prefill)), max_sequences=64),
                decode,
                twin(config),
                prefill_engines=deployment.prefill.engines,
                decode_engines=deployment.decode.engines,
                library=library,
            )
        else:
            assembled = assemble(decode, twin(config), library)
    except (NoTable, TwinOutOfMemory) as error:
        return Outcome(reason=str(error))
    done = run_closed_loop(assembled.emulation, requests_of(config), deployment.users)
    return outcome_of(assembled.emulation, done)


def mtok_s_mw(tokens_s_gpu: float, kw: float) -> float:
    """Million tokens/s per MW."""
    return tokens_s_gpu / kw / 1e3


def headline_table(outcome: Outcome) -> str:
    rows: list[tuple[str, float, float, str]] = [
        ("tokens/s/GPU, in and out", PUBLISHED_RUN.tokens_s_gpu, outcome.tokens_s_gpu, ",.0f"),
        ("tokens/s/user (1 / median TPOT)", PUBLISHED_RUN.tokens_s_user, 1 / outcome.tpot_s, ".1f"),
        ("median TTFT, s", PUBLISHED_RUN.ttft_s, outcome.ttft_s, ".2f"),
        ("P99 TTFT, s", PUBLISHED_RUN.p99_ttft_s, outcome.p99_ttft_s, ".1f"),
    ]
    for kw, when in KW:
        rate = mtok_s_mw(PUBLISHED_RUN.tokens_s_gpu, kw)
        label = f"million tokens/s/MW at {kw:.2f} kW/GPU (the constant {when})"
        rows.append((label, rate, mtok_s_mw(outcome.tokens_s_gpu, kw), ".2f"))
    lines = [
        [
            name,
            f"{true:{form}}",
            f"{ours:{form}}",
            f"{ours / true - 1:+.0%}",
        ]
        for name, true, ours, form in rows
    ]
    lines.append(["board power, W/GPU", "-", f"{outcome.watts_gpu:,.0f}", "-"])
    return table([f"{HEADLINE.name}, {HEADLINE.users:,} users", "published", "modelled", ""], lines)


def front_table(found: Sequence[tuple[Deployment, Outcome]]) -> str:
    best = front(found)
    lines = []
    for deployment, outcome in sorted(found, key=lambda each: -each[1].tokens_s_gpu):
        if outcome.reason:
            lines.append([deployment.name, f"{deployment.users:,}", outcome.reason, *["-"] * 5])
            continue
        mark = " *" if deployment in best else ""
        lines.append(
            [
                deployment.name + mark,
                f"{deployment.users:,}",
                f"{outcome.tokens_s_gpu:,.0f}",
                f"{1 / outcome.tpot_s:.1f}",
                f"{outcome.ttft_s:.2f}",
                f"{outcome.p99_ttft_s:.1f}",
                " / ".join(f"{mtok_s_mw(outcome.tokens_s_gpu, kw):.2f}" for kw, _ in KW),
                f"{outcome.watts_gpu:,.0f}",
            ]
        )
    titles = [
        "modelled",
        "users",
        "tokens/s/GPU",
        "tokens/s/user",
        "median TTFT s",
        "P99 TTFT s",
        "M tokens/s/MW (2.17 / 1.90 kW)",
        "board W/GPU",
    ]
    return table(titles, lines)


def front(found: Sequence[tuple[Deployment, Outcome]]) -> set[Deployment]:
    """The Pareto front in tokens/s/GPU and tokens/s/user."""
    served = [(deployment, outcome) for deployment, outcome in found if not outcome.reason]
    best, most = set[Deployment](), 0.0
    for deployment, outcome in sorted(served, key=lambda each: each[1].tpot_s):
        if outcome.tokens_s_gpu > most:
            best.add(deployment)
            most = outcome.tokens_s_gpu
    return best


def draw(found: Sequence[tuple[Deployment, Outcome]], file: Path) -> None:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.2), dpi=130)
    for name in dict.fromkeys(deployment.name for deployment, _ in found):
        mine = [o for deployment, o in found if deployment.name == name and not o.reason]
        mine.sort(key=lambda outcome: outcome.tpot_s)
        x, y = [1 / o.tpot_s for o in mine], [mtok_s_mw(o.tokens_s_gpu, KW[0][0]) for o in mine]
        axes.plot(x, y, marker="o", markersize=3, linewidth=1.2, label=f"{name}, modelled")
    rate = mtok_s_mw(PUBLISHED_RUN.tokens_s_gpu, KW[0][0])
    axes.plot(
        [PUBLISHED_RUN.tokens_s_user], [rate], "k*", markersize=11, label="28P + 8D, measured"
    )
    axes.set_xlabel("tokens/s/user")
    axes.set_ylabel(f"million tokens/s/MW at {KW[0][0]} kW/GPU, in + out")
    axes.set_title("DeepSeek-R1 FP8, TensorRT-LLM, B300, 8k/1k: modelled", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(file, metadata={"Software": ""})
    pyplot.close(figure)


def others_table(found: Sequence[tuple[Deployment, Published, Outcome]]) -> str:
    def cell(true: float, ours: float, form: str) -> str:
        return f"{true:{form}} → {ours:{form}} ({ours / true - 1:+.0%})"

    lines = []
    for deployment, published, outcome in found:
        shape = f"{deployment.name} {deployment.weights}, {deployment.isl // 1024}k/{deployment.osl // 1024}k"
        if outcome.reason:
            lines.append([shape, f"{deployment.users:,}", outcome.reason, "-", "-", "-"])
            continue
        lines.append(
            [
                shape,
                f"{deployment.users:,}",
                cell(published.tokens_s_gpu, outcome.tokens_s_gpu, ",.0f"),
                cell(published.tokens_s_user, 1 / outcome.tpot_s, ".1f"),
                cell(published.ttft_s, outcome.ttft_s, ".2f"),
                cell(published.p99_ttft_s, outcome.p99_ttft_s, ".1f"),
            ]
        )
    titles = [
        "published → modelled",
        "users",
        "tokens/s/GPU",
        "tokens/s/user",
        "median TTFT s",
        "P99 TTFT s",
    ]
    return table(titles, lines)


def document(run: Callable[[Sequence[Deployment]], Iterable[Outcome]], figure: Path | None) -> str:
    published = others()
    deployments = [*NEIGHBOURS, *(deployment for deployment, _ in published)]
    outcomes = list(run(deployments))
    found = list(zip(NEIGHBOURS, outcomes, strict=False))
    outcome = dict(found)[HEADLINE]
    if outcome.reason:
        return f"No prediction of the headline: {outcome.reason}\n"
    rest = outcomes[len(NEIGHBOURS) :]
    runs = [
        (deployment, true, one) for (deployment, true), one in zip(published, rest, strict=True)
    ]
    parts = ["### The headline", headline_table(outcome), "### Other disaggregated runs"]
    if runs:
        parts.append(others_table(runs))
        served = [(published, o) for _, published, o in runs if not o.reason]
        rate = error([o.tokens_s_gpu for _, o in served], [s.tokens_s_gpu for s, _ in served])
        user = error([1 / o.tpot_s for _, o in served], [s.tokens_s_user for s, _ in served])
        parts.append(
            f"Median error of {rate.count}: tokens/s/GPU {rate.median:.1%} ({rate.bias:+.0%}), "
            f"tokens/s/user {user.median:.1%} ({user.bias:+.0%})."
        )
    else:
        parts.append(f"*{PUBLISHED.name} is not there: nothing to compare with.*")
    parts += [
        "### Around it, from bulk to premium",
        "\\* on the front of tokens/s/GPU and tokens/s/user.",
        front_table(found),
    ]
    if figure:
        draw(found, figure)
        parts.append(f"![The front around the headline, modelled](images/{figure.name})")
    return "\n\n".join(parts) + "\n"
