"""`make bench-effects`: the effects that reports show, against ablations: every one simulated.

Whole studies on the twin's virtual clock; the truth of each effect and of each subset of changes is the median
of starts that the study never saw. Some minutes on two cores.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from tests.benchmarks.search.ablated_studies import STARTS, Judged, judged, run
from tests.benchmarks.tables import put, table
from tuner.analysis.effects.reverted import KEPT
from tuner.analysis.surrogate import LEVEL

SEEDS = tuple(range(100, 103))
_ONE = "search.confirm.candidates=1 search.confirm.repeats_min=2 search.confirm.repeats_max=3"
_LLAMA = "experiment=b300 workload=twin"
STUDIES: Mapping[str, str] = {
    "three frameworks, TPE, 30 trials": f"{_LLAMA} search=tpe search.trials=30",
    "three frameworks, curves, 30 trials": f"{_LLAMA} search=curve search.trials=30",
    "vLLM, curves, 20 trials": (
        f"{_LLAMA} engine=[vllm] space=[vllm_gpu,llama33_70b_precision] search=curve search.trials=20"
    ),
    "SGLang, random, 24 trials": (
        f"{_LLAMA} engine=[sglang] space=[sglang_gpu,llama33_70b_precision] search=random "
        "search.trials=24"
    ),
    "TensorRT-LLM, TPE, 20 trials": (
        f"{_LLAMA} engine=[trtllm] space=[trtllm_gpu,llama33_70b_precision] search=tpe "
        "search.trials=20"
    ),
    "gpt-oss 120B, vLLM, curves, 20 trials": (
        f"{_LLAMA} engine=[vllm] model=gpt_oss_120b space=[vllm_gpu] search=curve search.trials=20"
    ),
}
TITLES = (
    "studies",
    "effects shown",
    "sign right",
    "inside its interval",
    "all intervals",
    "largest of those without effect",
    "tiers without effects",
    f"fewest changes that keep {KEPT:.0%}: truly",
    "changes",
    "smallest possible",
)


def share(right: int, of: int) -> str:
    return f"{right} of {of} ({right / of:.0%})" if of else "–"


def row(title: str, tiers: Sequence[Judged]) -> list[str]:
    effects = [effect for tier in tiers for effect in tier.effects]
    shown = [effect for effect in effects if effect.shown]
    idle = [abs(each) for tier in tiers for each in tier.without_effect]
    fewest = [tier.fewest for tier in tiers if tier.fewest is not None]
    sized = [each for each in fewest if each.smallest is not None]
    return [
        title,
        str(len(shown)),
        share(sum(effect.sign_right for effect in shown), len(shown)),
        share(sum(effect.inside for effect in shown), len(shown)),
        share(sum(effect.inside for effect in effects), len(effects)),
        f"{max(idle):.1%} of {len(idle)}" if idle else "–",
        f"{sum(tier.unavailable for tier in tiers)} of {len(tiers)}",
        share(sum(each.keeps >= KEPT for each in fewest), len(fewest)),
        f"{sum(each.changes for each in sized) / len(sized):.1f}" if sized else "–",
        f"{sum(each.smallest or 0 for each in sized) / len(sized):.1f}" if sized else "–",
    ]


def study(title: str, seed: int) -> list[Judged]:
    """In a process of its own."""
    return judged(*run([*STUDIES[title].split(), *_ONE.split(), f"search.seed={seed}"]))


def section(seeds: Sequence[int]) -> str:
    """Markdown, from the runs."""
    everything: list[Judged] = []
    lines = []
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        runs = {title: [pool.submit(study, title, seed) for seed in seeds] for title in STUDIES}
        for title, each in runs.items():
            tiers = [tier for done in each for tier in done.result()]
            lines.append(row(title, tiers))
            everything += tiers
            print(*lines[-1], sep=" | ", file=sys.stderr, flush=True)  # noqa: T201
            for effect in (effect for tier in tiers for effect in tier.effects):
                if effect.shown and not (effect.sign_right and effect.inside):
                    print(f"    {effect}", file=sys.stderr, flush=True)  # noqa: T201
    lines.append(row("**all**", everything))
    return f"""# Effects against ablations

The effect of a change is what happens to the target metric when this parameter alone returns to the default
and all others stay as in the best configuration. A report estimates it by a model of the trials, with an
interval at {LEVEL:.0%}, and calls it an effect where the interval excludes zero. Here each is held against its
ablation: the same change taken back, simulated; the truth is the median of {STARTS} starts that the study never
saw, without starts of which a level is not valid. {len(seeds)} studies a line, seeds from {seeds[0]} on,
three tiers each, on emulated B300 nodes. The first line's studies were looked at while the method was made, the
others' were not. `make bench-effects`.

{table(TITLES, lines)}

Largest of those without effect: the largest true effect among changes of which a report says that the engine
runs the same. Fewest changes: the set that `search.confirm` confirmed by one more trial, the share of these
sets that truly keep {KEPT:.0%} of the gain, their mean size, and that of the smallest of all subsets that does.
"""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, metavar="FILE", help="the page, as Markdown")
    parser.add_argument("--seeds", type=int, default=len(SEEDS))
    args = parser.parse_args(argv)
    text = section(SEEDS[: args.seeds])
    print(text)  # noqa: T201
    if args.write:
        put(text, args.write, "bench-effects")
    return 0


if __name__ == "__main__":
    sys.exit(main())
