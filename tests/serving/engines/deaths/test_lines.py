"""Each of the recorded lines has its class, its phase, and a remedy; and the table says where it is from."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

import serving.errors
from serving.engines import ENGINES
from serving.engines.deaths.diagnosis import diagnose
from serving.engines.deaths.model import STRENGTH, Death
from serving.engines.deaths.platform import COMMON
from serving.errors import ServingError

# A line a row: `group` of the failure table, `how` it is known (read in the source, or seen in a run), and
# where. `before` and `after` are the lines around it; `evidence`: if it is more than the line.
LINES: list[dict[str, Any]] = [
    json.loads(line) for line in Path(__file__).with_name("lines.jsonl").read_text().splitlines()
]


def died(row: dict[str, Any]) -> ServingError:
    log = "\n".join(filter(None, [row.get("before"), row["line"], row.get("after")]))
    return diagnose(ENGINES[row["engine"]].deaths, 1, log)


@pytest.mark.parametrize("row", LINES, ids=[f"{row['group']}-{row['error']}" for row in LINES])
def test_a_recorded_line_is_told_by_its_class(row: dict[str, Any]) -> None:
    found = died(row)
    assert (type(found).__name__, found.phase) == (row["error"], row["phase"])
    assert row.get("remedy", "") in found.remedy
    assert re.fullmatch(r"[A-Z].*\.", found.remedy), found.remedy
    if "evidence" in row:
        assert found.evidence == row["evidence"]
    elif row["error"] != "EngineExited" and not row.get("after"):
        assert found.evidence == row["line"]
    assert row["how"] in ("read", "run")
    assert row["source"]
    assert row["version"]


def test_all_groups_are_there() -> None:
    assert {row["group"] for row in LINES} == set(range(1, 44))


@pytest.mark.parametrize("name", ENGINES)
def test_a_table_is_whole(name: str) -> None:
    table = ENGINES[name].deaths
    for death in (*table.deaths, *COMMON):
        assert death.error in STRENGTH, death
        assert re.fullmatch(r"[A-Z].*\.", death.remedy), death
        assert death.source, death
        assert re.search(r"\d", death.version), death
    for by_phase in table.remedies.values():
        assert "" in by_phase
        assert all(re.fullmatch(r"[A-Z].*\.", each) for each in by_phase.values())


def test_every_cause_is_an_error_with_a_domain() -> None:
    assert {each.__name__ for each in STRENGTH} <= serving.errors.DOMAINS.keys()
    assert serving.errors.DOMAINS["GpuOccupied"] == "node"
    assert serving.errors.DOMAINS["KvCacheTooSmall"] == "configuration"


def test_every_recorded_cause_has_a_line() -> None:
    ours = {row["error"] for row in LINES}
    assert {each.__name__ for each in STRENGTH} - ours == {"DiskFull"}


def test_a_made_up_engine_needs_no_table() -> None:
    death = Death(r"boom", serving.errors.EngineExited, "Do not.", "x", "1")
    table = ENGINES["external"].deaths
    assert death not in table.deaths
    assert type(diagnose(table, 1, "CUDA out of memory")).__name__ == "OutOfMemory"


def test_the_documentation_names_every_class_with_its_domain() -> None:
    page = (Path(serving.errors.__file__).parents[1] / "docs" / "failures.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", page, re.MULTILINE))
    bases = {each for each in serving.errors.DOMAINS if each.endswith(("Fault", "ServingError"))}
    for name, domain in serving.errors.DOMAINS.items():
        assert name in bases or f"`{name}`" in rows[domain]
