"""What the product gave, in values that are the same on each run: ledgers, commands, names, columns."""

import json
import math
import re
import shlex
import shutil
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml

from tests.golden.cases import EXITS, KEPT_SHARE, LIVE, OLDER, OLDER_STUDY, PLANS, RESUMED, STUDIES
from tests.golden.product import Product, endpoint

FOLDER = Path(__file__).parent
GOLDEN = FOLDER / LIVE
CONF = Path(__file__).parent / "conf"  # groups as they were when the studies were recorded
LEDGER, SAVED, SIMULATED = "ledger.jsonl", "study.yaml", "simulated"
# Of the machine and the moment, not of what was measured.
MACHINE = {
    "host": "golden",
    "cpu": "golden",
    "cores": 2,
    "memory_bytes": 0,
    "kernel": "golden",
    "python": "3.11",
    "gpus": [],
    "driver": None,
}
_TEXTS = {"completed": ("cut_short", "pruned"), "failed": (), "attempt": ()}
_VARYING = {*MACHINE, "wattfront"}
_PROSE = {"reasons", "invalid_because", "cut_short", "given_up", "pruned", "why"}
_MACHINE_DEPENDENT = {"reasons", "intervals_95"}  # their keys hang on how fast the machine was
_LOG_TIME = re.compile(r"\b\d\d-\d\d \d\d:\d\d:\d\d\b|\b\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d[.,\d]*")
_NUMBER = re.compile(r"(?<![\w.])[-+]?\d+(?:\.\d+)?(?:[kM](?!\w))?")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}\b)")
_UNITS = {"k": 1e3, "M": 1e6}

NOT_CERTAIN = "# The next ones"  # of a plan, the commands that results may change


def place(folder: Path) -> None:
    """Copies of the golden studies, where the command line finds them by name."""
    for study in sorted(path for path in GOLDEN.iterdir() if path.is_dir()):
        shutil.copytree(study, folder / "studies" / study.name)
    if (GOLDEN / OLDER_STUDY).is_dir():
        shutil.copytree(GOLDEN / OLDER_STUDY, folder / OLDER)


def simulated(product: Product, name: str, folder: Path, *more: str) -> Path:
    """The folder of a study that is run now."""
    if (GOLDEN / OLDER_STUDY).is_dir():
        shutil.copytree(GOLDEN / OLDER_STUDY, folder / OLDER)
    own = ("output_dir=now", "--workers", "1", "--config-dir", str(CONF))
    words = ("tuner", "simulate", *STUDIES[name], *own, *more)
    said = product.run(words, folder)
    assert said.code == 0, said.output
    (saved,) = folder.glob(f"now/*/{SAVED}")
    return saved.parent


def ledger(study: Path, until: int | None = None) -> dict[str, Any]:
    """Its lines by what they are of, without the time and the machine, and without our own prose.

    `until`: trials below this number alone.
    """
    made = {}
    for line in unpacked((study / LEDGER).read_text().splitlines()):
        if until is not None and line.get("number", 0) >= until:
            continue
        del line["time"]
        result = line.get("result", {})
        facts = result.get("provenance", {})
        for fact in _VARYING & set(facts):
            facts[fact] = "any"
        if "evidence" in result:
            result["evidence"] = _LOG_TIME.sub("TIME", result["evidence"])
        what = "asked" if line["status"] == "asked" else "result"
        name = f"trial {line['number']} {what}" if "number" in line else line["status"]
        assert name not in made, f"{study}: {name} is there twice"
        made[name] = _unworded(line)
    return made


def unpacked(texts: Iterable[str]) -> Iterator[dict[str, Any]]:
    """A ledger's lines as 0.1.0 wrote them: whole configurations, and figures by name."""
    bases = {}
    for line in map(json.loads, texts):
        if line["status"] == "base":
            bases[line["id"]] = line
        result = line.get("result", {})
        if "base" in result:
            base = bases[result.pop("base")]
            config = base["config"]
            for path, value in line["point"].items():
                group, *rest = path.split(".")
                if rest:
                    config = _with(config, [group, *rest[group == "engine" :]], value)
            result["config"] = _changed(config, result["config"])
            result["provenance"] = _changed(base["provenance"], result["provenance"])
            result["status"] = line["status"]
            result |= {key: result.get(key, "") for key in _TEXTS[line["status"]]}
            reasons = result.pop("reasons", [])
            for place, point in enumerate(result.get("points", ())):
                _unpack(point, place, base, reasons)
        if line["status"] not in ("header", "base", "complete"):
            yield line


def _unpack(point: dict[str, Any], place: int, base: dict[str, Any], reasons: list[Any]) -> None:
    point["metrics"] = dict(zip(base["metrics"], point["metrics"], strict=True))
    point["predicted"] = dict(zip(base["predicted"], point.get("predicted", ()), strict=False))
    point.setdefault("invalid_because", [])
    point["reasons"] = {
        base["metrics"][metric] if isinstance(metric, int) else metric: text
        for text, metrics, places in reasons
        for metric in metrics
        if place in places or not places
    }


def _changed(value: Any, changes: dict[str, Any]) -> Any:
    for pointer, new in changes.items():
        parts = [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]
        value = _with(value, parts, new)
    return value


def _with(value: Any, parts: list[str], new: Any) -> Any:
    """A copy in which the place has the new value, if there is such a place."""
    if not parts:
        return new
    if parts[0] not in value:
        return value
    return {**value, parts[0]: _with(value[parts[0]], parts[1:], new)}


def _unworded(value: Any, key: str = "") -> Any:
    """With a mark where a sentence of ours stands: whether there is one counts, not its words."""
    if isinstance(value, dict):
        return {k: _unworded(v, key if key in _PROSE else k) for k, v in value.items()}
    if isinstance(value, list):
        return [_unworded(v, key) for v in value]
    return "SAID" if key in _PROSE and isinstance(value, str) and value else value


def saved(study: Path) -> dict[str, Any]:
    """The study's configuration; where its folder is says nothing."""
    data: dict[str, Any] = yaml.safe_load((study / SAVED).read_text())
    del data["output_dir"]
    prior = data["search"]["prior"]
    prior["study"] = prior["study"] and Path(prior["study"]).name
    if data["search"]["kind"] in (
        "list",
        "random",
    ):  # neither has any; experiments that set it may change
        del data["search"]["startup_trials"]
    return data


def kept(study: Path, target: Path, base: Path) -> None:
    """A copy of a study's folder that names neither this machine nor its folders."""
    target.mkdir(parents=True)
    (target / SIMULATED).touch()
    text = (study / SAVED).read_text().replace(f"{base}/", "")
    (target / SAVED).write_text(text)
    with (target / LEDGER).open("w") as file:
        for line in unpacked((study / LEDGER).read_text().splitlines()):
            line.get("result", {}).get("provenance", {}).update(MACHINE)
            file.write(json.dumps(line, separators=(",", ":"), ensure_ascii=False) + "\n")


def reported(product: Product, name: str, folder: Path) -> dict[str, Any]:
    """The exit code of a study's report, and the numbers of each row of a tier or of the front."""
    tiers = saved(GOLDEN / name)["slo"]["tiers"]
    said = product.run(("tuner", "report", f"studies/{name}"), folder)
    lines = [line for line in said.output.splitlines() if "  " in line]
    rows = [numbers(line) for line in lines if _is_row(line, tiers)]
    shown = [" ".join(f"{number:.12g}" for number in row) for row in rows]
    return {"code": said.code, "rows": shown, "said": said.output}


def numbers(line: str) -> list[float]:
    """`45.4k` is 45400; digits inside a word are none."""
    found = _NUMBER.findall(_THOUSANDS.sub("", line))
    return [round(float(n.rstrip("kM")) * _UNITS.get(n[-1], 1.0), 6) for n in found]


def missing_rows(rows: Iterable[str], output: str) -> Iterator[str]:
    """The rows whose numbers stand in no line of the output, or in no two that a cell is wrapped into."""
    single = [numbers(line) for line in output.splitlines()]
    lines = [first + second for first, second in pairwise([*single, []])]
    for row in rows:
        if not any(_within(numbers(row), line) for line in lines):
            yield f"no line has these numbers: {row}"


def resumed(product: Product, folder: Path) -> tuple[int, dict[str, Any]]:
    """The exit code and ledger of the study that was stopped in the middle of a line, and goes on."""
    study = folder / "studies" / RESUMED
    whole = (study / LEDGER).read_bytes()
    (study / LEDGER).write_bytes(whole[: int(KEPT_SHARE * len(whole))])
    said = product.run(("tuner", "resume", f"studies/{RESUMED}"), folder, one_core=True)
    return said.code, ledger(study)


def planned(product: Product, name: str, folder: Path) -> list[list[str]]:
    """The words of the launch command of each trial that is certain; later versions show more than these."""
    said = product.run(("tuner", "plan", f"experiment={name}", *PLANS[name]), folder)
    assert said.code == 0, said.output
    certain = said.output.replace(" \\\n", "").partition(NOT_CERTAIN)[0]
    lines = [line for line in certain.splitlines() if " --port " in line]
    return [shlex.split(line) for line in lines]


def exit_codes(product: Product, folder: Path) -> dict[str, int]:
    broken = folder / "studies" / "broken"
    broken.mkdir()
    (broken / SAVED).write_text("name: broken\n")
    codes = {}
    for line in EXITS:
        words = [word for given in line.split() for word in _spread(given, folder)]
        codes[line] = product.run(words, folder).code
    return codes


def mirrored(study: Path) -> dict[str, Any]:
    """The names in MLflow: of the experiment, of the runs of each kind and of what they hold."""
    with closing(sqlite3.connect(study.parent / "mlflow.db")) as base:
        runs = dict(base.execute("select run_uuid, name from runs"))
        kinds = dict(base.execute("select run_uuid, value from tags where key = 'kind'"))
        experiments = base.execute("select name from experiments where name != 'Default'")
        made: dict[str, Any] = {"experiments": [name for (name,) in experiments]}
        for kind in sorted(set(kinds.values())):
            ours = {run for run, each in kinds.items() if each == kind}
            names = sorted(runs[run].replace(study.name, "STUDY") for run in ours)
            made[kind] = {"runs": names}
            for table in ("params", "metrics", "tags"):
                rows = base.execute(f"select distinct run_uuid, key from {table}")
                made[kind][table] = sorted({key for run, key in rows if run in ours})
        made["verdicts"] = sorted(
            f"{runs[run]}: {key} {value}"
            for run, key, value in base.execute("select run_uuid, key, value from tags")
            if key in ("pareto", "tier_best")
        )
        made["unknown"] = sorted(name for run, name in runs.items() if run not in kinds)
    return made


def loaded(product: Product, folder: Path) -> dict[str, Any]:
    """The columns of the load generator's records, what is kept beside them, and the keys of its JSON."""
    with endpoint() as url:
        load = (
            "--concurrency",
            "1,2",
            "--requests",
            "4",
            "--warmup",
            "0.1",
            "--output-tokens",
            "8",
        )
        files = ("--parquet", "records.parquet", "--json", "report.json")
        said = product.run(("loadgen", url, *load, *files), folder)
    assert said.code == 0, said.output
    schema = pq.read_schema(folder / "records.parquet")
    report = json.loads((folder / "report.json").read_text())
    return {
        "columns": {field.name: str(field.type) for field in schema},
        "metadata": sorted(key.decode() for key in schema.metadata or {} if key != b"ARROW:schema"),
        "json": sorted(set(_paths(report))),
    }


def _paths(value: Any, path: str = "") -> Iterator[str]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            seen = None if key in _MACHINE_DEPENDENT else inner
            yield from _paths(seen, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        yield f"{path}[]"
        for inner in value:
            yield from _paths(inner, f"{path}[]")
    else:
        yield path


def _is_row(line: str, tiers: Iterable[str]) -> bool:
    first = line.split(maxsplit=1)[0]
    return first in tiers or (first.isdecimal() and "closed " in line)


def _within(row: list[float], line: list[float]) -> bool:
    """Whether the line has the row's numbers in this order, to the three digits that a table shows."""
    rest = iter(line)
    return all(any(math.isclose(number, each, rel_tol=5e-3) for each in rest) for number in row)


def _spread(word: str, folder: Path) -> list[str]:
    """A pattern becomes the folders that are there, as a shell does it."""
    if "*" not in word:
        return [word]
    return [str(path.relative_to(folder)) for path in sorted(folder.glob(word))] or [word]
