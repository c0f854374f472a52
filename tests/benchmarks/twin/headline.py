"""The headline: DeepSeek-R1 FP8 on 36 B300, 3.5 million tokens/s/MW, and what lies around it. Modelled.

The published run: Dynamo with TensorRT-LLM, 28 GPUs that compute prompts and 8 that decode, 8k/1k, 3,072
users. Its workers' shapes are those of the published columns; queue sizes and token budgets were not
published and are assumed.
"""

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from serving.twin.engine.assemble import TwinOutOfMemory, assemble, assemble_disaggregated
from serving.twin.tables.library import Library, NoTable
from tests.benchmarks.tables import table
from tests.benchmarks.twin.points import PUBLISHED, Config
from tests.benchmarks.twin.runs import Outcome, outcome_of, requests_of, setup_of, twin
from tests.benchmarks.twin.scores import error
from tests.serving.twin.stations import drive

KW = ((2.17, "to July 2026"), (1.90, "since"))
SYSTEM, FRAMEWORK, MODEL = "b300_sxm", "trtllm", "deepseek-r1"


@dataclass(frozen=True, slots=True)
class Pool:
    """So many engines of `data` ranks of `tensor` GPUs each."""

    engines: int
    tensor: int
    data: int
    expert: int

    @property
    def gpus(self) -> int:
        return self.engines * self.tensor * self.data


@dataclass(frozen=True, slots=True)
class Place:
    """Engines that compute prompts, and engines that decode; none of the former: the latter do both."""

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


DP8 = Pool(1, 1, 8, 1)  # attention DP8, experts split by tensors: as published
HEADLINE = Place(Pool(7, 1, 4, 1), DP8, 3072)
USERS = (32, 128, 512, 1024, 2048, 3072)
MOST_DECODES = 1024  # the largest batch of decodes in InferenceX's recipes of TensorRT-LLM
AROUND = [Place(Pool(p, 1, 4, 1), DP8, users) for p in (1, 2, 4, 7) for users in USERS]
AROUND += [Place(None, DP8, users) for users in (8, 32, 128, 512, 1024)]


@dataclass(frozen=True, slots=True)
class Published:
    tokens_s_gpu: float
    tokens_s_user: float
    ttft_s: float
    p99_ttft_s: float


# InferenceX's dashboard, run of 12 February 2026. Of the same run the wheel's sample has the means:
# TTFT 7.47 s, TPOT 88.3 ms.
SAID = Published(7727, 11.0, 2.16, 77.4)


def others() -> list[tuple[Place, Published]]:
    """The newest disaggregated runs of TensorRT-LLM without speculation; [] without the file."""
    if not PUBLISHED.exists():
        return []
    found: dict[Place, tuple[str, Published]] = {}
    for row in csv.DictReader(PUBLISHED.read_text().splitlines()):
        wanted = ("b300", "dynamo-trt", "dsr1", "none", "True")
        names = ("hardware", "framework", "model", "spec", "disagg")
        if tuple(row[name] for name in names) != wanted:
            continue
        place = Place(
            _pool(row, "prefill"),
            _pool(row, "decode"),
            int(float(row["conc"])),
            "nvfp4" if row["precision"] == "fp4" else "fp8_block",
            int(float(row["isl"])),
            int(float(row["osl"])),
        )
        said = Published(
            float(row["tput_per_gpu_tok_s"]),
            1e3 / float(row["median_tpot_ms"]),
            float(row["median_ttft_s"]),
            float(row["p99_ttft_s"]),
        )
        if place not in found or row["date"] >= found[place][0]:
            found[place] = row["date"], said
    pairs = [(place, said) for place, (_, said) in found.items()]
    return sorted(pairs, key=lambda pair: -pair[1].tokens_s_gpu)


def _pool(row: Mapping[str, str], kind: str) -> Pool:
    gpus, ranks = int(float(row[f"{kind}_tp"])), row[f"{kind}_dpa"] == "True"
    engines = int(float(row[f"num_{kind}_gpu"])) // gpus
    return Pool(engines, 1 if ranks else gpus, gpus if ranks else 1, int(float(row[f"{kind}_ep"])))


def simulate(place: Place, library: Library) -> Outcome:
    """Prompt engines take prompts one after the other; decode engines have room for twice the users,
    and at most for MOST_DECODES a rank."""
    config = place.config(place.decode)
    ranks = place.decode.engines * place.decode.data
    room = min(MOST_DECODES, max(16, 2 * -(-place.users // ranks)))
    decode = replace(setup_of(config), max_sequences=room)
    try:
        if place.prefill:
            assembled = assemble_disaggregated(
                replace(setup_of(place.config(place.prefill)), max_sequences=64),
                decode,
                twin(config),
                prefill_engines=place.prefill.engines,
                decode_engines=place.decode.engines,
                library=library,
            )
        else:
            assembled = assemble(decode, twin(config), library)
    except (NoTable, TwinOutOfMemory) as error:
        return Outcome(reason=str(error))
    done = drive(assembled.emulation, requests_of(config), place.users)
    return outcome_of(assembled.emulation, done)


def mega(tokens_s_gpu: float, kw: float) -> float:
    """Million tokens/s a MW."""
    return tokens_s_gpu / kw / 1e3


def headline_table(outcome: Outcome) -> str:
    rows: list[tuple[str, float, float, str]] = [
        ("tokens/s/GPU, in and out", SAID.tokens_s_gpu, outcome.tokens_s_gpu, ",.0f"),
        ("tokens/s/user (1 / median TPOT)", SAID.tokens_s_user, 1 / outcome.tpot_s, ".1f"),
        ("median TTFT, s", SAID.ttft_s, outcome.ttft_s, ".2f"),
        ("P99 TTFT, s", SAID.p99_ttft_s, outcome.p99_ttft_s, ".1f"),
    ]
    for kw, when in KW:
        rate = mega(SAID.tokens_s_gpu, kw)
        label = f"million tokens/s/MW at {kw:.2f} kW/GPU (the constant {when})"
        rows.append((label, rate, mega(outcome.tokens_s_gpu, kw), ".2f"))
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


def front_table(found: Sequence[tuple[Place, Outcome]]) -> str:
    best = front(found)
    lines = []
    for place, outcome in sorted(found, key=lambda each: -each[1].tokens_s_gpu):
        if outcome.reason:
            lines.append([place.name, f"{place.users:,}", outcome.reason, *["-"] * 5])
            continue
        mark = " *" if place in best else ""
        lines.append(
            [
                place.name + mark,
                f"{place.users:,}",
                f"{outcome.tokens_s_gpu:,.0f}",
                f"{1 / outcome.tpot_s:.1f}",
                f"{outcome.ttft_s:.2f}",
                f"{outcome.p99_ttft_s:.1f}",
                " / ".join(f"{mega(outcome.tokens_s_gpu, kw):.2f}" for kw, _ in KW),
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


def front(found: Sequence[tuple[Place, Outcome]]) -> set[Place]:
    """Those that none beats in both tokens/s/GPU and tokens/s/user."""
    served = [(place, outcome) for place, outcome in found if not outcome.reason]
    best, most = set[Place](), 0.0
    for place, outcome in sorted(served, key=lambda each: each[1].tpot_s):
        if outcome.tokens_s_gpu > most:
            best.add(place)
            most = outcome.tokens_s_gpu
    return best


def draw(found: Sequence[tuple[Place, Outcome]], file: Path) -> None:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.2), dpi=130)
    for name in dict.fromkeys(place.name for place, _ in found):
        mine = [o for place, o in found if place.name == name and not o.reason]
        mine.sort(key=lambda outcome: outcome.tpot_s)
        x, y = [1 / o.tpot_s for o in mine], [mega(o.tokens_s_gpu, KW[0][0]) for o in mine]
        axes.plot(x, y, marker="o", markersize=3, linewidth=1.2, label=f"{name}, modelled")
    rate = mega(SAID.tokens_s_gpu, KW[0][0])
    axes.plot([SAID.tokens_s_user], [rate], "k*", markersize=11, label="28P + 8D, measured")
    axes.set_xlabel("tokens/s/user")
    axes.set_ylabel(f"million tokens/s/MW at {KW[0][0]} kW/GPU, in + out")
    axes.set_title("DeepSeek-R1 FP8, TensorRT-LLM, B300, 8k/1k: modelled", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(file, metadata={"Software": ""})
    pyplot.close(figure)


def others_table(found: Sequence[tuple[Place, Published, Outcome]]) -> str:
    def cell(true: float, ours: float, form: str) -> str:
        return f"{true:{form}} → {ours:{form}} ({ours / true - 1:+.0%})"

    lines = []
    for place, said, outcome in found:
        shape = f"{place.name} {place.weights}, {place.isl // 1024}k/{place.osl // 1024}k"
        if outcome.reason:
            lines.append([shape, f"{place.users:,}", outcome.reason, "-", "-", "-"])
            continue
        lines.append(
            [
                shape,
                f"{place.users:,}",
                cell(said.tokens_s_gpu, outcome.tokens_s_gpu, ",.0f"),
                cell(said.tokens_s_user, 1 / outcome.tpot_s, ".1f"),
                cell(said.ttft_s, outcome.ttft_s, ".2f"),
                cell(said.p99_ttft_s, outcome.p99_ttft_s, ".1f"),
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


def document(run: Callable[[Sequence[Place]], Iterable[Outcome]], figure: Path | None) -> str:
    said = others()
    places = [*AROUND, *(place for place, _ in said)]
    outcomes = list(run(places))
    found = list(zip(AROUND, outcomes, strict=False))
    outcome = dict(found)[HEADLINE]
    if outcome.reason:
        return f"No prediction of the headline: {outcome.reason}\n"
    rest = outcomes[len(AROUND) :]
    runs = [(place, true, one) for (place, true), one in zip(said, rest, strict=True)]
    parts = ["### The headline", headline_table(outcome), "### Other disaggregated runs"]
    if runs:
        parts.append(others_table(runs))
        served = [(said, o) for _, said, o in runs if not o.reason]
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
        parts.append(f"![The front around the headline, modelled]({figure.name})")
    return "\n\n".join(parts) + "\n"
