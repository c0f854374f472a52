"""The files of a study, and its runs in MLflow: docs/reference/files.md."""

from collections.abc import Mapping

from serving.telemetry import engine_file, power_file
from tests.reference import columns, ledger_lines, mlflow_runs
from tests.reference.markdown import code, fenced, page, table
from tuner.cli.folders import SIMULATED
from tuner.config import upgrade
from tuner.config.load import SAVED
from tuner.report import fleet
from tuner.report.plots import pareto, zone
from tuner.results.ledger import LEDGER, RENAMED, TRIALS
from tuner.trial.quality.answers import FILE as ANSWERS

INTRO = """A study is a folder, `OUTPUT_DIR/NAME-DATE-TIME`. The ledger is the source of truth: it is only
ever appended to, and reports, plots and MLflow runs are made again from it."""
TRIAL = f"{TRIALS}/NNN-FINGERPRINT"
FOLDER = {
    SAVED: "the composed configuration, every key with its value",
    LEDGER: "one line per proposed trial and per result",
    f"{LEDGER}.found-N": "a ledger that was replaced: by `wattfront ledger check --repair`, or because it was "
    "removed, cut or written to while the study ran",
    f"{LEDGER}.torn": "ends of lines that a crash cut off",
    SIMULATED: "present where the study runs on the virtual clock: in how many processes",
    f"{TRIAL}/engine.log": "the end of the engine's log",
    f"{TRIAL}/records.parquet": "every request",
    f"{TRIAL}/{power_file.FILE}": "every reading of power",
    f"{TRIAL}/{ANSWERS}": "answers to the prompts of the quality gate: tokens and log-probabilities",
    f"{TRIAL}/{engine_file.FILE}": "every reading of the engine's metrics page",
    pareto.HTML: "the Pareto front, interactive",
    pareto.PNG: "the Pareto front",
    zone.PNG: "the Goldilocks zone; where prices are configured",
    fleet.PNG: "the plan of `wattfront fleet`, as a picture",
    fleet.JSON: "the same as data",
}
STUDY = """YAML, with the keys of [configuration.md](configuration.md)."""
LEDGER_LINES = """UTF-8, one JSON object per line. A torn line, as a crash leaves it, is skipped with a warning;
`wattfront ledger check STUDY` names every line that can't be read, `--repair` keeps all others.
`NaN`, `Infinity` and `-Infinity` may stand for metrics."""
RECORDS = """A row per request; times are nanoseconds on the monotonic clock of the trial's node, as in
`power.parquet`. `python -m loadgen --parquet` writes the same columns."""
POWER = """A row per reading and device. What a source does not report is null. The key `sources` of the
file's metadata is JSON: source → `power_kind` (`instant`, `average` or `modelled`), `absent_because`."""
ENGINE = """A row per reading, about one a second, on the same clock; counters count from the engine's start.
What an engine does not report is null. The key `source` of the file's metadata is JSON: `path`, `every_s`,
`absent_because`."""
PANDAS = """Nothing of Wattfront is needed to read the files:"""
SNIPPET = """
import json
from pathlib import Path

import pandas as pd

folder = Path("studies/NAME")
lines = [json.loads(line) for line in (folder / "ledger.jsonl").read_text().splitlines()]

bases = {line["id"]: line for line in lines if line["status"] == "base"}

# Trials whose answers differ too far from the default's: none of their points is valid.
verdicts = {line["number"]: line["kind"] for line in lines if line["status"] == "quality"}

# A row per valid operating point: the trial, its knobs, the load, every metric.
rows = [
    {"number": line["number"], **line["point"], "load": point["load"]}
    | dict(zip(bases[line["result"]["base"]]["metrics"], point["metrics"]))
    for line in lines
    if line["status"] == "completed" and verdicts.get(line["number"]) != "rejected"
    for point in line["result"]["points"]
    if "invalid_because" not in point
]
points = pd.DataFrame(rows)
print(points[["number", "load", "throughput_output_tok_s_device", "ttft_p99_ms"]])

# TTFT of each request, and mean power of each board, of every trial that has raw data.
for trial in sorted(folder.glob("trials/*/")):
    if (trial / "records.parquet").exists():
        records = pd.read_parquet(trial / "records.parquet").query("outcome == 0")
        ttft_ms = (records["first_ns"] - records["due_ns"]) / 1e6
        print(trial.name, ttft_ms.groupby(records["level"]).median())
    if (trial / "power.parquet").exists():
        power = pd.read_parquet(trial / "power.parquet")
        print(trial.name, power.groupby(["boundary", "device"])["power_w"].mean())
"""
MLFLOW = """One run per study; under it one per trial, and one per repeat; under a trial one per operating
point. Artifacts of a trial and a repeat: `config.json`, `command.sh`, the files of the trial's folder;
of a study: its plots, `study.yaml` and `ledger.jsonl`. [mlflow.md](../mlflow.md) shows how to compare
points."""


def markdown() -> str:
    """The page."""
    return page(
        "Files",
        INTRO,
        table(("file", "what it is"), [(code(name), text) for name, text in FOLDER.items()]),
        "## study.yaml",
        STUDY,
        _renamed(upgrade.RENAMED),
        "## ledger.jsonl",
        LEDGER_LINES,
        _renamed(RENAMED),
        ledger_lines.line_table(),
        "### result",
        ledger_lines.result_table(),
        "### provenance",
        ledger_lines.provenance_table(),
        "## records.parquet",
        RECORDS,
        columns.records_table(),
        "## power.parquet",
        POWER,
        columns.power_table(),
        "## engine_metrics.parquet",
        ENGINE,
        columns.engine_table(),
        "## Reading them with pandas",
        PANDAS,
        fenced(SNIPPET, "python"),
        "## MLflow",
        MLFLOW,
        *(part for heading, rows in mlflow_runs.tables() for part in (f"### {heading}", rows)),
    )


def _renamed(keys: Mapping[str, str]) -> str:
    """What older versions called a key."""
    pairs = ", ".join(f"{code(old)} (now {code(new)})" for old, new in keys.items())
    return f"Keys of older versions that are still read: {pairs}." if keys else ""


def problems() -> list[str]:
    """Keys, columns and names without a meaning, and meanings of what does not exist."""
    return [*ledger_lines.problems(), *columns.problems(), *mlflow_runs.problems()]
