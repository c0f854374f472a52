"""The report names what failed, where, to what it belongs, and what to change."""

import json
import re
from pathlib import Path

from tests.tuner.report.test_summary import CONFIG, POINTS, report_text
from tests.tuner.samples.study import sample_study
from tuner.config.resolve import trial_config
from tuner.results.ledger import LEDGER, Ledger, results
from tuner.tracking.runs import trial_run
from tuner.trial.result import Failed, Measured, Timings

REMEDY = "Lower mem_fraction_static: graphs need memory too."


def failed(number: int, failure: str, host: str, phase: str = "", remedy: str = "") -> Failed:
    return Failed(
        trial_config(CONFIG, POINTS[number]),
        failure,
        "its last words",
        Timings(1, 0, 0),
        provenance={"host": host},
        phase=phase,
        remedy=remedy,
    )


def test_a_failure_is_shown_with_its_phase_and_remedy(tmp_path: Path) -> None:
    sample_study(tmp_path, CONFIG, range(3))
    with Ledger.open(tmp_path) as ledger:
        for number, result in (
            (4, failed(4, "OutOfMemory", "a", "capture", REMEDY)),
            (6, failed(6, "DriverMismatch", "a")),
        ):
            ledger.asked(number, POINTS[number], result.config.fingerprint)
            ledger.finished(number, POINTS[number], Measured(result, {}))
    text = re.sub(r"\s+", " ", report_text(tmp_path, CONFIG, width=220))
    assert f"→ {REMEDY}" in text
    assert "capture" in text
    assert "of the node" in text
    assert "quarantined" not in text
    known = {e.number: e for e in results(tmp_path)}  # as read back from the file
    tags = trial_run(CONFIG, "s", known[4]).tags
    assert (tags["failure"], tags["phase"], tags["remedy"]) == ("OutOfMemory", "capture", REMEDY)
    assert tags["fault_domain"] == "configuration"
    lines = [json.loads(line) for line in (tmp_path / LEDGER).read_text().splitlines()]
    (plain,) = (
        line["result"] for line in lines if line["status"] == "failed" and line["number"] == 6
    )
    assert not {"phase", "remedy"} & plain.keys()  # as an older version wrote it
    other = trial_run(CONFIG, "s", known[6]).tags
    assert other["fault_domain"] == "node"
    assert "remedy" not in other


def test_nodes_that_fail_are_named_and_those_that_repeat_it_are_quarantined(tmp_path: Path) -> None:
    sample_study(tmp_path, CONFIG, range(1))
    with Ledger.open(tmp_path) as ledger:
        for number, host in ((4, "gpu07"), (6, "gpu07"), (6, "gpu02")):
            result = failed(number, "GpuOccupied", host)
            ledger.asked(number, POINTS[number], result.config.fingerprint)
            ledger.attempted(number, POINTS[number], Measured(result, {}))
    text = re.sub(r"\s+", " ", report_text(tmp_path, CONFIG, width=200))
    assert "3 failed attempts of machines" in text
    assert "node gpu07: GpuOccupied 2" in text
    assert "node gpu02: GpuOccupied 1" in text
    assert "Node gpu07 is quarantined: it failed 2 different configurations in a row" in text
    assert "Node gpu02 is quarantined" not in text
