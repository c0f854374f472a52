"""What a study shows while it runs: on a terminal, where it changes, and in a pipe, line by line."""

import io
import time
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from loadgen import Adaptive, Progress
from tests.tuner.samples.study import POINTS, sample_config, sample_result, sample_study
from tuner.config.resolve import trial_config
from tuner.metrics import notation
from tuner.report.progress import Display
from tuner.results.ledger import results
from tuner.search import Proposal
from tuner.trial.result import Completed, Failed, Timings

CONFIG = sample_config()
NOWHERE = Path("trials")


def proposal(number: int) -> Proposal:
    return Proposal(number, POINTS[number], trial_config(CONFIG, POINTS[number]))


def end(display: Display, number: int) -> None:
    asked = proposal(number)
    display.finished(asked, sample_result(asked.config, number), NOWHERE)


def console(*, terminal: bool) -> Console:
    return Console(
        file=io.StringIO(), record=True, force_terminal=terminal, width=140, color_system=None,
        _environ={"TERM": "xterm"},
    )  # fmt: skip


def shown(display: Display) -> str:
    """What stands on a terminal at this moment."""
    screen = console(terminal=True)
    screen.print(display._render())
    return screen.export_text()


@pytest.fixture
def terminal() -> Display:
    return Display(CONFIG, 1, console(terminal=True))


def test_before_anything_is_measured(terminal: Display) -> None:
    terminal.started(proposal(0))
    text = shown(terminal)
    assert "laptop-frameworks  trial 1 of 10" in text
    assert "known after the first trial" in text
    assert "#0  llamacpp as configured  starting, 0 s" in text
    assert "best so far" not in text


def test_the_running_trial_and_the_best_so_far(terminal: Display) -> None:
    terminal.started(proposal(0))
    end(terminal, 0)
    terminal.started(proposal(3))
    text = shown(terminal)
    assert "trial 2 of 10" in text
    assert "#3  vllm max_num_seqs=16 enable_prefix_caching=false" in text
    assert "best so far (throughput_output_tok_s_device): bulk" in text
    assert "(#0)" in text
    assert "instant" not in text, "no trial meets its SLO"


def test_time_left_is_that_of_the_trials_left(terminal: Display) -> None:
    """Nine more of 34 s each: 1.3 s of start, 24.6 s of load, 8.1 s of overhead."""
    end(terminal, 0)
    assert "about 5:06 left" in shown(terminal)
    two_at_a_time = Display(CONFIG, 2, console(terminal=True))
    end(two_at_a_time, 0)
    assert "about 2:33 left" in shown(two_at_a_time)


def test_the_better_trial_becomes_the_best(terminal: Display) -> None:
    for number in (8, 2):
        end(terminal, number)
    line = [row for row in shown(terminal).splitlines() if "best so far" in row]
    assert len(line) == 1
    assert "(#2)" in line[0]


def test_failures_are_counted_with_their_reason() -> None:
    screen = console(terminal=True)
    display = Display(CONFIG, 1, screen)
    end(display, 5)
    assert "1 failed" in shown(display)
    said = screen.export_text()
    assert "✗ vllm max_num_seqs=4096" in said
    assert "4096 is [more] than the KV cache can hold" in said, "brackets are no markup"


def test_where_a_trial_is(terminal: Display) -> None:
    terminal.started(proposal(0))
    progress = Progress(1, 4, "closed 2", "measure", 7, 3.0, 12.0)
    with terminal:
        terminal.watch(lambda: {0: progress})
        deadline = time.monotonic() + 10
        while "level 2 of 4" not in shown(terminal):
            assert time.monotonic() < deadline
            time.sleep(0.02)
    assert "level 2 of 4 (closed 2), measure, 7 requests, 3 of 12 s" in shown(terminal)


def test_adaptive_levels_are_shown_as_a_bound() -> None:
    arrival = Adaptive(levels=7)
    workload = CONFIG.workload.model_copy(update={"arrival": arrival})
    display = Display(CONFIG.model_copy(update={"workload": workload}), 1, console(terminal=True))
    display.started(proposal(0))
    display._progress = {0: Progress(1, 7, "poisson 3.5/s", "measure", 7, 3.0, 12.0)}
    assert "level 2 of up to 7 (poisson 3.5/s), measure" in shown(display)


def test_figures_that_are_not_valid_are_not_shown() -> None:
    screen = console(terminal=True)
    asked, display = proposal(0), Display(CONFIG, 1, screen)
    result = sample_result(asked.config, 0)
    assert isinstance(result, Completed)
    first, *others = result.points
    doubted = tuple(replace(p, invalid_because=("the client was late",)) for p in others)
    display.finished(asked, replace(result, points=(first, *doubted)), NOWHERE)
    rate = notation.number(first.metrics["throughput_output_tok_s_device"])
    assert f"up to {rate} tok/s/host" in screen.export_text()
    display.finished(asked, replace(result, points=doubted), NOWHERE)
    assert "no valid level (the client was late)" in screen.export_text()


def test_stopping_is_shown(terminal: Display) -> None:
    terminal.closing()
    assert "Ctrl-C again stops now" in shown(terminal)


def test_a_resumed_study_counts_earlier_trials(tmp_path: Path) -> None:
    sample_study(tmp_path, CONFIG, range(6))
    display = Display(CONFIG, 1, console(terminal=True))
    display.already(results(tmp_path))
    display.started(proposal(6))
    text = shown(display)
    assert "trial 7 of 10" in text
    assert "2 failed" in text
    assert "(#2)" in text


def test_a_pipe_gets_plain_lines() -> None:
    file = io.StringIO()
    with Display(CONFIG, 1, Console(file=file, width=80)) as display:
        for number in (0, 5, 2):
            display.started(proposal(number))
            end(display, number)
        display.closing()
    said = file.getvalue()
    assert "\x1b" not in said
    assert "\r" not in said
    lines = said.splitlines()
    assert len(lines) == 7, "a line for each start and each end, however narrow"
    assert "trial 1 of 10: #0 llamacpp as configured" in lines[0]
    assert lines[1].startswith("#0  ✓ llamacpp as configured  up to ")
    assert "new best: bulk, standard, premium" in lines[1]
    assert "trial 6 of 10: #5 vllm max_num_seqs=4096  about 5:06 left  best so far" in lines[2]
    assert lines[3].startswith("#5  ✗ vllm max_num_seqs=4096  BadFlags: error: argument")
    assert "parallel=8 threads=2" in lines[4]
    assert "Ctrl-C again" in lines[6]


def test_a_terminal_shows_it_live() -> None:
    screen = console(terminal=True)
    with Display(CONFIG, 1, screen) as display:
        display.started(proposal(0))
        end(display, 0)
    said = screen.export_text()
    assert "✓ llamacpp as configured" in said
    assert "trial 1 of 10" in said


def test_a_dumb_terminal_gets_plain_lines() -> None:
    file = io.StringIO()
    dumb = Console(file=file, force_terminal=True, width=200, _environ={"TERM": "dumb"})
    with Display(CONFIG, 1, dumb) as display:
        display.started(proposal(0))
    assert "trial 1 of 10" in file.getvalue()


@pytest.mark.parametrize("on_terminal", [True, False])
def test_a_failed_attempt_is_a_line_and_no_trial(on_terminal: bool) -> None:
    display = Display(CONFIG, 1, console(terminal=on_terminal))
    display.started(proposal(0))
    died = Failed(proposal(0).config, "WorkerDied", "gone", Timings(9, 0, 0))
    display.retried(proposal(0), died, 1)
    display.started(proposal(0))
    line = "#0  ↻ llamacpp as configured  WorkerDied: gone; retry 1 of 2"
    assert line in display._console.export_text(clear=False)
    end(display, 0)
    assert (display._done, display._failed) == (1, 0)


def test_what_a_study_waits_for_is_shown_while_it_waits(terminal: Display) -> None:
    terminal.waiting("the worker of trial 3 has not answered for 20 s")
    assert "has not answered for 20 s" in shown(terminal)
    terminal.waiting("")
    assert "has not answered" not in shown(terminal)


def test_and_in_a_pipe_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    display, now = Display(CONFIG, 1, console(terminal=False)), [100.0]
    monkeypatch.setattr("tuner.report.progress.time.monotonic", lambda: now[0])
    for second in range(61):
        now[0] = 100.0 + second
        display.waiting(f"for {second} s")
    display.waiting("for another thing for 2 s")
    lines = display._console.export_text().splitlines()
    assert lines == ["for 0 s", "for 60 s", "for another thing for 2 s"]
