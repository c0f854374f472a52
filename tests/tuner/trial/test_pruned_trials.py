"""A trial is pruned by what its study has measured: on both clocks, in the ledger, and on screen."""

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from loadgen import Adaptive, Closed, Poisson, Ramp, Workload
from tests.loadgen.fake_server import Behaviour, fake_server
from tests.tuner.samples.ledgers import older_line
from tests.tuner.samples.points import CONFIG, completed, failed, point
from tests.tuner.samples.study import POINTS, sample_config, sample_result
from tests.tuner.trial.test_run import Standing
from tests.tuner.trial.test_run import trial as real_trial
from tests.tuner.trial.test_simulate import trial as twin_trial
from tuner.config.groups.objective import ObjectiveConfig
from tuner.config.resolve import trial_config
from tuner.report.progress import Display
from tuner.report.summary import show_report
from tuner.results.ledger import LEDGER, Finished, Ledger, results
from tuner.search import Proposal
from tuner.search.pruning_baseline import PruningHistory, curves_of, pruning_baseline
from tuner.trial.pruner import TRIALS_MIN, Curve, PruningBaseline, TierBest, possible_loads
from tuner.trial.result import Completed, Measured, TrialResult
from tuner.trial.run import run_trial
from tuner.trial.simulate import simulate_trial

USER, RATE = "interactivity_tok_s_user", "throughput_output_tok_s_device"
STUDY = sample_config()


def out_of_reach(first: float) -> PruningBaseline:
    """Others were a thousand times as fast; they slow down evenly."""
    curve: Curve = {
        USER: ((1.0, 9e6), (64.0, 1e6)),
        RATE: ((1.0, 9e6), (64.0, 6e7)),
    }
    return PruningBaseline(
        axes=((USER, "max"), (RATE, "max")), front=((1e6, 6e7), (9e6, 9e6)), target=(RATE, "max"),
        tiers=(), curves=(curve,) * TRIALS_MIN, first_load=first,
    )  # fmt: skip


PRUNED = "after 1 of 3 levels: can't reach the front (risk 5 %)"


def test_on_the_virtual_clock_the_first_look_is_enough() -> None:
    config = twin_trial(users=(1, 4, 16))
    result = simulate_trial(config, out_of_reach(4)).result
    assert isinstance(result, Completed)
    assert [each.load for each in result.points] == ["closed 4"]
    assert result.pruned == PRUNED
    assert result.cut_short == ""
    assert result.config.fingerprint == config.fingerprint
    whole = simulate_trial(config).result
    assert isinstance(whole, Completed)
    assert len(whole.points) == 3
    assert whole.pruned == ""
    assert whole.timings.load_s > 2 * result.timings.load_s


def test_a_trial_that_gets_over_is_measured_to_its_end_from_the_load_named() -> None:
    low = replace(out_of_reach(16), front=((1e-3, 1e-3),))
    result = simulate_trial(twin_trial(users=(1, 4, 16)), low).result
    assert isinstance(result, Completed)
    assert [(each.load, each.level) for each in result.points] == [
        ("closed 1", 1), ("closed 4", 2), ("closed 16", 0),
    ]  # fmt: skip
    assert result.pruned == ""


@pytest.mark.process
def test_on_the_wall_clock_too() -> None:
    config = real_trial({"kind": "closed", "concurrency": [1, 2, 4]})
    for _ in range(5):  # a busy machine may spoil a level: it then decides nothing
        with fake_server(Behaviour(ttft_s=0.005)) as server:
            result = run_trial(config, Standing(server), lambda _: None, out_of_reach(2)).result
        assert isinstance(result, Completed)
        assert [each.load for each in result.points if each.level == 0] == ["closed 2"]
        if result.points[-1].valid:
            break
    assert [each.load for each in result.points] == ["closed 2"]
    assert result.pruned == PRUNED


def test_the_loads_that_there_may_be() -> None:
    def loads(arrival: object) -> tuple[float, ...]:
        data = {"name": "w", "input_tokens": 1, "output_tokens": 2, "arrival": arrival}
        return possible_loads(Workload.model_validate(data))

    assert loads(Closed(concurrency=(1, 8))) == (1, 8)
    assert loads(Poisson(rate_per_s=(0.5,))) == (0.5,)
    assert loads(Ramp(from_per_s=1, to_per_s=2, over_s=3)) == ()
    ladder = loads(Adaptive(lowest=1, highest=16))
    assert ladder == pytest.approx([2 ** (i / 2) for i in range(9)])
    assert loads(Adaptive(lowest=3, highest=3)) == (3,)


def sample(number: int) -> Completed:
    result = sample_result(trial_config(STUDY, POINTS[number]), number)
    assert isinstance(result, Completed)
    return result


def test_a_history_gives_the_baseline_of_all_results() -> None:
    found = [sample_result(trial_config(STUDY, POINTS[n]), n) for n in range(len(POINTS))]
    pruned = replace(sample(3), pruned="after 2 of 4 levels", points=sample(3).points[:2])
    results, history = list[TrialResult](), PruningHistory(STUDY.slo, STUDY.objective, 0.1)
    for each in (*found[::-1], pruned, *found):
        results.append(each)
        history.add(each)
        assert history.baseline() == pruning_baseline(results, STUDY.slo, STUDY.objective, 0.1)


def test_a_studys_results_are_the_baseline() -> None:
    found = [sample(0), sample_result(trial_config(STUDY, POINTS[4]), 4), sample(2), sample(1)]
    pruned = replace(sample(3), pruned="after 2 of 4 levels", points=sample(3).points[:2])
    baseline = pruning_baseline([*found, pruned], STUDY.slo, STUDY.objective, 0.1)
    assert baseline.axes == ((USER, "max"), (RATE, "max"))
    assert baseline.target == (RATE, "max")
    assert len(baseline.curves) == 3
    assert baseline.risk == 0.1
    assert baseline.first_load in (1, 2, 4, 8)
    users = [user for user, _ in baseline.front]
    rates = [rate for _, rate in baseline.front]
    assert users == sorted(users, reverse=True)
    assert rates == sorted(rates)
    bars = dict(zip(STUDY.slo.tiers, baseline.tiers, strict=True))
    assert bars["instant"].best is None
    assert bars["bulk"].best == max(
        p.metrics[RATE] or 0 for f in found if isinstance(f, Completed) for p in f.points
    )
    assert bars["bulk"].limits == {"ttft_p99_ms": 5000, "error_rate": 0}


def test_without_results_there_is_no_baseline() -> None:
    baseline = pruning_baseline([failed()], STUDY.slo, ObjectiveConfig(), 0.05)
    assert baseline.front == baseline.curves == ()
    assert baseline.first_load is None
    assert all(bar == TierBest(bar.limits, None) for bar in baseline.tiers)


def test_a_shape_is_of_whole_curves_and_trusted_levels() -> None:
    whole = completed(
        point(0, a=1.0, b=2.0, c=-1.0), point(1, a=None, b=3.0, c=1.0),
        point(2, invalid_because=("late",), a=9.0, b=9.0, c=9.0),
    )  # fmt: skip
    late = completed(point(0, invalid_because=("late",), a=1.0), point(1, a=1.0))
    short = replace(whole, cut_short="EndpointErrors: no")
    (curve,) = curves_of([whole, late, short, failed()], ["a", "b", "c", "b"])
    assert curve == {"a": ((1, 1.0),), "b": ((1, 2.0), (2, 3.0))}


def stopped() -> Completed:
    return replace(
        sample(0), pruned="after 2 of 4 levels: can't reach the front (risk 5 %)",
        points=sample(0).points[:2],
    )  # fmt: skip


def test_the_ledger_says_it_and_reads_lines_from_before_it_could(tmp_path: Path) -> None:
    with Ledger.open(tmp_path) as ledger:
        ledger.finished(0, POINTS[0], Measured(stopped(), {}))
        ledger.finished(2, POINTS[2], Measured(sample(2), {}))
    path = tmp_path / LEDGER
    (line, _) = [json.loads(x) for x in path.read_text().splitlines() if '"completed"' in x]
    assert line["result"]["pruned"].startswith("after 2 of 4 levels")
    assert [each["load"] for each in line["result"]["points"]] == ["closed 1", "closed 2"]
    lines = [json.loads(older_line(entry)) for entry in results(tmp_path)]
    lines[0]["result"]["given_up"] = lines[0]["result"].pop("pruned")  # the key of version 0.1.0
    del lines[1]["result"]["pruned"]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    first, second = results(tmp_path)
    assert pruned(first) == stopped().pruned
    assert pruned(second) == ""


def pruned(entry: Finished) -> str:
    assert isinstance(entry.result, Completed)
    return entry.result.pruned


def test_the_report_counts_it_apart_from_failures(tmp_path: Path) -> None:
    with Ledger.open(tmp_path) as ledger:
        ledger.finished(0, POINTS[0], Measured(stopped(), {}))
        ledger.finished(2, POINTS[2], Measured(sample(2), {}))
    out = io.StringIO()
    show_report(tmp_path, STUDY, Console(file=out, width=160))
    text = out.getvalue()
    assert "1 of 2 completed trials was pruned" in text
    assert "trial 0: pruned after 2 of 4 levels: can't reach the front (risk 5 %)" in text
    assert "Failed" not in text


def test_the_display_counts_it_apart_from_failures() -> None:
    out = io.StringIO()
    display = Display(STUDY, 1, Console(file=out, width=200))
    config = trial_config(STUDY, POINTS[0])
    display.finished(Proposal(0, POINTS[0], config), stopped(), Path("trials"))
    assert "○ llamacpp as configured" in out.getvalue()
    assert "pruned after 2 of 4 levels: can't reach the front (risk 5 %)" in out.getvalue()
    screen = Console(file=io.StringIO(), record=True, force_terminal=True, width=140)
    screen.print(display._render())
    shown = screen.export_text()
    assert "1 pruned" in shown
    assert "failed" not in shown


def test_a_configuration_is_the_same_however_far_it_is_measured() -> None:
    assert "baseline" not in CONFIG.model_dump_json()
