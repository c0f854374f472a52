"""The product does what it did when the golden files were recorded. Seen through its command line alone.

Record anew, after a change that is meant to change outputs: `python -m tests.golden.record PART`.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.golden import observe
from tests.golden.cases import LIVE, MIRRORED, PLANS, RESUMED, STUDIES
from tests.golden.compare import differences, renamed, told, unsaid, without
from tests.golden.product import Product

pytestmark = pytest.mark.process

# Old name → new name, of whatever is renamed on purpose: keys of ledgers, of study.yaml and of the other
# golden files, and texts that are just a name. They are applied to the golden before it is compared.
# `objective.throughput` stands for that key in that place alone, `ttft_p50_ms` for every one of the name.
RENAMES: dict[str, str] = {
    "objective.throughput": "objective.metric",
    "search.give_up_risk": "search.prune_risk",
    "search.confirm.contenders": "search.confirm.candidates",
    "given_up": "pruned",
}
# Keys that are new on purpose, and in no golden file.
ADDED: frozenset[str] = frozenset({
    "assumes", "cached_tokens", "container", "dead_after_s", "doubt", "env_passthrough", "known_wrong",
    "engine_draft_acceptance", "engine_kv_cache_share_max", "engine_preemptions", "engine_prefix_hit_share",
    "engine_running_max", "engine_running_mean", "engine_waiting_max", "engine_waiting_mean", "limited_by",
    "answers_s", "engine_warmup_s", "hang_after_s", "phase", "remedy", "weight_load_s",
    "cuda_graph_config", "enable_attention_dp", "flags", "gib_per_device", "kv_cache_config", "llm_options",
    "compilation", "kv_transfer", "prefill", "prefill_knobs", "prepare", "quality", "replicas", "router",
    "router_args", "speculation", "version",
    "levels[].client.missed", "levels[].oddities", "load_value", "oddity", "prompt_salt", "request", "wait_s",
})  # fmt: skip

# Words of command lines that are new or gone on purpose.
CHANGED_WORDS = (" --enable-metrics", " --async-scheduling")

# Study → its first trial that differs on purpose: a repeat of `confirm` that missed a tier is tried once more.
DIFFERS_FROM = {"confirm": 7}
MIRRORED_ANEW = (
    ("repeat", "runs"),
    ("study", "metrics"),
)  # of that study in MLflow: its race is decided now
MIRRORED_ADDED = (("study", "tags", "view"),)  # names in MLflow that are new on purpose

MOST_BYTES = 1 << 20
NOT_FOR_GIT = tuple(f"/{folder}/" for folder in ("tmp", "root", "work", "home"))
STUDY = pytest.mark.parametrize("name", STUDIES)


@cache
def golden(part: str) -> Any:
    return json.loads((observe.FOLDER / f"{part}.json").read_text())


def check(old: Any, now: Any) -> None:
    before, after = (
        unsaid(each, CHANGED_WORDS) for each in (renamed(old, RENAMES), without(now, ADDED))
    )
    if lines := told(differences(before, after)):
        pytest.fail(lines, pytrace=False)


@pytest.fixture(scope="session")
def product(tmp_path_factory: pytest.TempPathFactory) -> Product:
    return Product(tmp_path_factory.mktemp("golden") / "home")


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    """A folder with copies of the golden studies."""
    observe.place(tmp_path)
    return tmp_path


@STUDY
def test_a_study_gives_the_golden_ledger(name: str, product: Product, tmp_path: Path) -> None:
    more = ("--to-mlflow",) if name == MIRRORED else ()
    study = observe.simulated(product, name, tmp_path, *more)
    until = DIFFERS_FROM.get(name)
    check(
        {
            "study": observe.saved(observe.GOLDEN / name),
            "ledger": observe.ledger(observe.GOLDEN / name, until),
        },
        {"study": observe.saved(study), "ledger": observe.ledger(study, until)},
    )
    if more:
        old, now = golden("mlflow"), observe.mirrored(study)
        for names, part in MIRRORED_ANEW:
            assert old[names].pop(part) != now[names].pop(part)
        for names, part, name_of in MIRRORED_ADDED:
            now[names][part].remove(name_of)
        check(old, now)


@pytest.mark.parametrize("name", PLANS)
def test_a_plan_shows_the_golden_commands(name: str, product: Product, tmp_path: Path) -> None:
    check({name: golden("plans")[name]}, {name: observe.planned(product, name, tmp_path)})


def test_the_load_generator_writes_the_golden_columns(product: Product, tmp_path: Path) -> None:
    check(golden("loadgen"), observe.loaded(product, tmp_path))


def test_command_lines_end_with_the_golden_codes(product: Product, studies: Path) -> None:
    check(golden("exits"), observe.exit_codes(product, studies))


@STUDY
def test_an_old_study_reports_the_golden_numbers(
    name: str, product: Product, studies: Path
) -> None:
    old, now = golden("reports")[name], observe.reported(product, name, studies)
    assert now["code"] == old["code"], now["said"][-2000:]
    rows = map(without_gain, old["rows"])
    if lines := told(observe.missing_rows(rows, now["said"])):
        pytest.fail(lines, pytrace=False)


def without_gain(row: str) -> str:
    """A row of default, best, and what was shown of their gain: of one run each it is no longer stated."""
    figures = [float(word) for word in row.split()]
    if len(figures) < 3 or not all(figures[:2]):
        return row
    default, best, gain = figures[:3]
    stated = (100 * (best / default - 1), 100 * (default / best - 1))
    is_gain = any(abs(each - gain) < 0.2 for each in stated)
    return " ".join(row.split()[:2]) if is_gain else row


def test_an_old_study_that_was_stopped_goes_on_to_the_golden_ledger(
    product: Product, studies: Path
) -> None:
    code, lines = observe.resumed(product, studies)
    assert code == 0
    now = renamed(lines, RENAMES)  # the lines from before the stop keep their old keys
    check({"ledger": observe.ledger(observe.GOLDEN / RESUMED)}, {"ledger": now})


def test_golden_files_are_small_and_name_no_folder_of_a_machine() -> None:
    files = [
        path for path in observe.FOLDER.rglob("*") if path.suffix in (".json", ".jsonl", ".yaml")
    ]
    assert sum(path.stat().st_size for path in files) < MOST_BYTES
    assert {path.parent.parent.name for path in files if path.suffix == ".jsonl"} >= {LIVE}
    named = [
        f"{path.relative_to(observe.FOLDER)}: {folder}"
        for path in files
        for folder in NOT_FOR_GIT
        if folder in path.read_text()
    ]
    assert not named
