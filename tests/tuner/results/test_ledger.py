"""What is written comes back exactly, whatever happens to the writer."""

import json
import math
import multiprocessing
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tuner.samples.ledgers import older_line
from tests.tuner.samples.study import POINTS, sample_config, sample_result, sample_study
from tuner.config.resolve import trial_config
from tuner.results.ledger import LEDGER, Ledger, LedgerError, read, results
from tuner.trial.result import Completed, Measured, OperatingPoint

CONFIG = sample_config()
TRIALS = [trial_config(CONFIG, point) for point in POINTS]


def ask(ledger: Ledger, number: int) -> None:
    ledger.asked(number, POINTS[number], TRIALS[number].fingerprint)


def finish(ledger: Ledger, number: int, files: dict[str, bytes] | None = None) -> Path:
    result = sample_result(TRIALS[number], number)
    return ledger.finished(number, POINTS[number], Measured(result, files or {}))


def test_a_study_comes_back_exactly_as_it_was_written(tmp_path: Path) -> None:
    sample_study(tmp_path, CONFIG)
    found = results(tmp_path)
    assert [entry.result for entry in found] == [sample_result(t, n) for n, t in enumerate(TRIALS)]
    assert [entry.point for entry in found] == list(POINTS)
    assert [entry.fingerprint for entry in found] == [trial.fingerprint for trial in TRIALS]
    assert len(read(tmp_path)) == 2 * len(POINTS)


def test_lines_keep_their_order_and_survive_reopening(tmp_path: Path) -> None:
    with Ledger.open(tmp_path) as ledger:
        ask(ledger, 0)
        ask(ledger, 1)
        finish(ledger, 1)
    with Ledger.open(tmp_path) as ledger:
        finish(ledger, 0)
        lines = [(entry.number, entry.result is None) for entry in ledger.entries()]
        assert lines == [(0, True), (1, True), (1, False), (0, False)]
        assert list(ledger.entries()) == read(tmp_path)


def test_every_line_can_be_read_by_itself(tmp_path: Path) -> None:
    sample_study(tmp_path, CONFIG)
    for text in (tmp_path / LEDGER).read_text().splitlines():
        line = json.loads(text)
        if line["status"] in {"asked", "completed", "failed"}:
            assert {"number", "fingerprint", "point", "time"} <= set(line)
        else:
            assert line["status"] in {"header", "base"}


def test_files_lie_in_the_folder_of_the_trial(tmp_path: Path) -> None:
    with Ledger.open(tmp_path) as ledger:
        folder = finish(ledger, 3, {"engine.log": b"up\n", "records.parquet": b"\x00\xff"})
    assert folder == tmp_path / "trials" / f"003-{TRIALS[3].fingerprint}"
    assert (folder / "engine.log").read_bytes() == b"up\n"
    assert (folder / "records.parquet").read_bytes() == b"\x00\xff"
    assert results(tmp_path)[0].folder == folder


@given(
    metrics=st.dictionaries(st.text(), st.none() | st.floats()),
    text=st.text(),
    facts=st.dictionaries(st.text(), st.none() | st.booleans() | st.integers() | st.text()),
)
def test_any_float_text_and_fact_round_trips(
    tmp_path_factory: pytest.TempPathFactory,
    metrics: dict[str, float | None],
    text: str,
    facts: dict[str, Any],
) -> None:
    folder = tmp_path_factory.mktemp("study")
    point = OperatingPoint(0, text, metrics, {text: text}, (text,))
    base = sample_result(TRIALS[0], 0)
    assert isinstance(base, Completed)
    result = replace(base, points=(point,), command=text, provenance=facts)
    with Ledger.open(folder) as ledger:
        ledger.finished(0, POINTS[0], Measured(result, {}))
    (entry,) = results(folder)
    assert isinstance(entry.result, Completed)
    back = entry.result.points[0].metrics
    assert back.keys() == metrics.keys()
    for name, value in metrics.items():
        same = back[name]
        assert same == value or (value is not None and same is not None and math.isnan(value))
    exact = replace(entry.result, points=(replace(entry.result.points[0], metrics=metrics),))
    assert exact == result


def test_a_load_is_stored_exactly_and_an_old_ledger_s_is_read_from_its_label(
    tmp_path: Path,
) -> None:
    base = sample_result(TRIALS[0], 0)
    assert isinstance(base, Completed)
    point = replace(base.points[0], load="poisson 2/s", load_value=2.0000001)
    with Ledger.open(tmp_path) as ledger:
        ledger.finished(0, POINTS[0], Measured(replace(base, points=(point,)), {}))
    assert loads(tmp_path) == [2.0000001]
    (entry,) = results(tmp_path)
    old = older_line(entry).replace(b',"load_value":2.0000001', b"")
    names = {"closed 8": 8, "poisson 2.5/s": 2.5, "gamma 1e+06/s": 1e6, "constant 3/s": 3}
    unknown = dict.fromkeys(("ramp 20 to 80/s", "step 1, 2/s", "trace at 2x", "closed 1.2.3"))
    for name, load in {**names, **unknown}.items():
        (tmp_path / LEDGER).write_bytes(old.replace(b"poisson 2/s", name.encode()))
        assert loads(tmp_path) == [load]


def loads(folder: Path) -> list[float | None]:
    (entry,) = results(folder)
    assert isinstance(entry.result, Completed)
    return [point.load_value for point in entry.result.points]


def test_a_torn_last_line_is_reported_and_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sample_study(tmp_path, CONFIG, range(2))
    whole = (tmp_path / LEDGER).read_bytes()
    lines = whole.splitlines(keepends=True)
    for cut in (1, 20, len(lines[-1]) - 3):
        (tmp_path / LEDGER).write_bytes(b"".join(lines[:-1]) + lines[-1][:cut])
        caplog.clear()
        assert [entry.number for entry in read(tmp_path)] == [0, 0, 1]
        assert "torn" in caplog.text
    with Ledger.open(tmp_path) as ledger:
        finish(ledger, 1)
    assert [entry.number for entry in read(tmp_path)] == [0, 0, 1, 1]


def test_a_last_line_that_lacks_only_its_end_is_kept(tmp_path: Path) -> None:
    sample_study(tmp_path, CONFIG, range(1))
    path = tmp_path / LEDGER
    path.write_bytes(path.read_bytes().removesuffix(b"\n"))
    with Ledger.open(tmp_path) as ledger:
        ask(ledger, 1)
    assert [entry.number for entry in read(tmp_path)] == [0, 0, 1]


@pytest.mark.parametrize("line", ["{}", "nonsense", '{"status": "completed", "number": 1}', "[]"])
def test_a_broken_line_in_the_middle_is_named(tmp_path: Path, line: str) -> None:
    sample_study(tmp_path, CONFIG, range(1))
    path = tmp_path / LEDGER
    first, *others = path.read_text().splitlines()
    path.write_text("\n".join([first, line, *others, ""]))
    with pytest.raises(LedgerError, match=r"ledger.jsonl:2: "):
        read(tmp_path)


def test_only_one_process_writes(tmp_path: Path) -> None:
    with Ledger.open(tmp_path):
        with pytest.raises(LedgerError, match="another process"), Ledger.open(tmp_path):
            pass
        assert read(tmp_path) == []
    with Ledger.open(tmp_path):
        pass


def test_a_trial_ends_once(tmp_path: Path) -> None:
    with Ledger.open(tmp_path) as ledger:
        finish(ledger, 0)
        with pytest.raises(ValueError, match="finished already"):
            finish(ledger, 0)
    assert len(results(tmp_path)) == 1


def test_no_ledger_is_an_empty_one(tmp_path: Path) -> None:
    assert read(tmp_path / "nowhere") == []


def write_for_ever(folder: Path) -> None:
    with Ledger.open(folder) as ledger:
        number = 0
        while True:
            trial = TRIALS[number % len(TRIALS)]
            ledger.asked(number, {}, trial.fingerprint)
            result = sample_result(trial, number % len(TRIALS))
            ledger.finished(number, {}, Measured(result, {"engine.log": b"x" * 4096}))
            number += 1


@pytest.mark.process
def test_a_killed_writer_leaves_whole_trials_and_no_lock(tmp_path: Path) -> None:
    writer = multiprocessing.get_context("spawn").Process(target=write_for_ever, args=(tmp_path,))
    writer.start()
    assert writer.pid is not None
    while len(read(tmp_path)) < 6:
        assert writer.is_alive()
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()
    with Ledger.open(tmp_path) as ledger:
        done = ledger.results()
        assert [entry.number for entry in done] == list(range(len(done)))
        assert all((entry.folder / "engine.log").stat().st_size == 4096 for entry in done)
        ledger.asked(len(done) + 1, {}, TRIALS[0].fingerprint)
    assert len(results(tmp_path)) == len(done)


def test_knobs_read_like_flags(tmp_path: Path) -> None:
    sample_study(tmp_path, CONFIG)
    found = results(tmp_path)
    assert found[0].is_default
    assert found[0].knobs == "as configured"
    assert not found[3].is_default
    assert found[3].knobs == "max_num_seqs=16 enable_prefix_caching=false"
    assert found[3].engine == "vllm"
    assert not found[3].modelled
