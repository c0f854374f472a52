"""The report of an emulated study: what it rests on is said, and nothing in it is called measured."""

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from tests.tuner.samples.loaded import load
from tuner.config.study import StudyConfig
from tuner.report.plots.pareto_data import pareto_data
from tuner.report.summary import show_report
from tuner.results.ledger import Ledger, results
from tuner.study.study import Study
from tuner.trial.simulate import simulate_trial

SHORT = ("workload.arrival.concurrency=[1,4]", "workload.level_s=2", "workload.warmup_s=1")
REPEATED = ("search.confirm.candidates=1", "search.confirm.repeats_max=2")
FEW = ("search.trials=2", "search.confirm.repeats_min=2", "workload.output_tokens=64")
# What is said of real machines, which the twin was compared with.
OF_MACHINES = re.compile(r"error against measured runs|compared with no measured run", re.DOTALL)


def simulated(folder: Path, *words: str) -> StudyConfig:
    config = load([*words, *SHORT, *FEW, *REPEATED, "workload.level_max_s=6"])
    with Ledger.open(folder) as ledger:
        study = Study(config, ledger, [])
        while (proposal := study.ask()) is not None:
            study.finished(proposal.number, simulate_trial(proposal.config))
    return config


def text_of(folder: Path, config: StudyConfig) -> str:
    out = io.StringIO()
    show_report(folder, config, Console(file=out, width=80))
    return out.getvalue()


@pytest.fixture(scope="module")
def deepseek(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, StudyConfig]:
    folder = tmp_path_factory.mktemp("deepseek")
    words = ("search=random", "slo.tiers.mine={ttft_p99_ms: 60000}")
    return folder, simulated(folder, "experiment=b300_deepseek", *words)


def test_assumptions_stand_where_the_figures_do(deepseek: tuple[Path, StudyConfig]) -> None:
    folder, config = deepseek
    text = text_of(folder, config)
    drafts = "each of 3 draft tokens is accepted with probability 0.7"
    assert drafts in text
    assert "sglang 0.5.14" in text
    assert "of two configurations on equally many GPUs 82 %" in text
    assert drafts in pareto_data(config, results(folder)).subtitle.replace("\n", " ")


def test_nothing_modelled_is_called_measured(deepseek: tuple[Path, StudyConfig]) -> None:
    folder, config = deepseek
    text = OF_MACHINES.sub("", text_of(folder, config))
    own = [line for line in text.splitlines() if not line.startswith(("/", "plot:"))]
    assert not re.findall(r".*[^n]measured.*", re.sub(r"not measured", "", "\n".join(own)))
    subtitle = pareto_data(config, results(folder)).subtitle
    assert re.search(r"\d trials modelled", subtitle)
    assert "trials measured" not in subtitle


def test_an_answer_from_wrong_step_times_says_so_loudly(tmp_path: Path) -> None:
    vllm = ("engine=vllm", "model=deepseek_r1", "space=[vllm_gpu,moe_layouts]", "search=random")
    tier = "slo.tiers.mine={ttft_p99_ms: 60000}"
    config = simulated(tmp_path, "experiment=b300_deepseek", *vllm, tier)
    text = text_of(tmp_path, config)
    assert re.search(r"KNOWN TO BE WRONG.*block-scaled FP8 \(deepseek-r1\)", text)
    answers = text[text.index("Best of each tier") :]
    assert re.search(r"mine.*: the answer hangs on step times that are known to be wrong", answers)
    assert "KNOWN TO BE WRONG" in pareto_data(config, results(tmp_path)).subtitle


def test_the_gain_of_an_emulated_study_is_one_of_repeats(
    deepseek: tuple[Path, StudyConfig],
) -> None:
    folder, config = deepseek
    text = text_of(folder, config)
    at = text.index("Cost and gain")
    rows = [line for line in text[at:].splitlines() if line.startswith("mine ")]
    assert rows
    assert "one run each" not in text[at:]
