"""The walk over configuration models: every field of them, and the field that a path leads to."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from pydantic import BaseModel

from tests.tuner.samples.loaded import load
from tuner.config.fields import FieldRow, every, field_at, keys_at, type_text
from tuner.config.groups.fleet import FleetConfig
from tuner.config.study import StudyConfig
from tuner.config.trial import TrialConfig

ROOTS: list[type[BaseModel]] = [StudyConfig, TrialConfig, FleetConfig]
ROWS = list(every(StudyConfig))


def row(path: str, given: str = "") -> FieldRow:
    (found,) = [each for each in ROWS if each.path == path and given in ("", *each.given)]
    return found


@pytest.mark.parametrize("root", ROOTS)
def test_every_field_of_our_models_is_described(root: type[BaseModel]) -> None:
    ours = [each for each in every(root) if each.owner.__module__.startswith("tuner.config.")]
    assert ours
    assert not [each.path for each in ours if not each.description]


@pytest.mark.parametrize(
    ("path", "given", "expected"),
    [
        ("name", "", ("string", "not empty, matches ^[^/]+$", True, "")),
        ("search.prune_risk", "", ("float | null", "> 0, < 0.5", False, "null")),
        ("search.goal", "", ('"front" | "tiers"', "", False, '"front"')),
        ("search.budget", "", ("Budget", "", False, "")),
        ("objective.axes", "", ("list of Axis", "at least 2 entries", False, None)),
        ("objective.axes.*.direction", "", ('"max" | "min"', "", False, '"max"')),
        (
            "slo.tiers.*.ttft_p99_ms",
            "",
            ("float | null", "> 0, ≤ 1,000,000,000,000", False, "null"),
        ),
        (
            "workload.arrival.concurrency",
            "workload.arrival.kind=closed",
            (
                "list of int",
                "not empty, at most 1,000 entries, each > 0, each ≤ 1,000,000",
                True,
                "",
            ),
        ),
        (
            "workload.arrival.tiers",
            "workload.arrival.kind=adaptive",
            ("mapping of mapping of float", "each ≥ 0", False, "{}"),
        ),
        (
            "space.parameters.*.step",
            "space.parameters.*.type=int",
            ("int", "≥ 1, ≤ 1,000,000,000,000", False, "1"),
        ),
        (
            "economics.capacity.interest.value",
            "economics.capacity.kind=owned",
            ("float", "≥ 0, ≤ 1,000,000,000,000", True, ""),
        ),
    ],
)
def test_rows(path: str, given: str, expected: tuple[str, str, bool, str | None]) -> None:
    found = row(path, given)
    yaml_type, constraints, required, default = expected
    assert (found.yaml_type, found.constraints, found.required) == (
        yaml_type,
        constraints,
        required,
    )
    assert default is None or found.default == default


def leaves(data: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if isinstance(data, Mapping) and data:
        for key, value in data.items():
            yield from leaves(value, (*path, key))
    else:
        yield path


@pytest.mark.parametrize("experiment", ["laptop_frameworks", "b300_energy", "b300_deepseek"])
def test_every_leaf_of_a_study_has_a_field(experiment: str) -> None:
    study = load([f"experiment={experiment}", "economics=b300_owned"])
    for path in leaves(study.model_dump(exclude={"search": {"points"}})):
        assert field_at(StudyConfig, path) is not None, path


def test_paths_lead_through_none_mappings_and_unions() -> None:
    pools = field_at(TrialConfig, ("hardware", "twin", "pools", "prefill_topology", "cpus"))
    assert pools is not None
    assert pools.annotation is int
    environment = field_at(StudyConfig, ("engine", "vllm", "env", "ANY_NAME"))
    assert environment is not None
    assert type_text(environment.annotation) == "string"
    assert field_at(TrialConfig, ("workload", "arrival", "burstiness")) is not None
    for absent in (("hardware", "twin", "nope"), ("model", "name", "deeper"), ("nope",)):
        assert field_at(TrialConfig, absent) is None


def test_keys_at_a_location_of_pydantic() -> None:
    assert "parallel" in keys_at(StudyConfig, ("engine", "llamacpp", "llamacpp"))
    assert keys_at(StudyConfig, ("economics", "capacity", "rented")) == [
        "kind",
        "usd_per_device_hour",
    ]
    assert "ttft_p99_ms" in keys_at(StudyConfig, ("slo", "tiers", "premium"))
    assert keys_at(StudyConfig, ("objective", "axes", 0)) == ["metric", "direction"]
    assert keys_at(StudyConfig, ("workload", "input_tokens", "a union", "ranged")) == [
        "kind",
        "low",
        "high",
    ]
    assert keys_at(StudyConfig, ("name",)) == []


def test_types_as_yaml_knows_them() -> None:
    assert type_text(dict[str, tuple[int, ...]] | None) == "mapping of list of int | null"


def test_every_number_has_a_range() -> None:
    """Numbers beyond it are refused before a study starts. Free values are judged where they go."""
    free = ("when", "choices", "left", "right", "left_times", "right_times", "points", "model_args")
    unbounded = {
        each.path
        for root in ROOTS
        for each in every(root)
        if re.search(r"(?<!\")\b(int|float)\b(?!\")", each.yaml_type)
        and each.path.rpartition(".")[2] not in free
        and not ("≤" in each.constraints or "<" in each.constraints)
    }
    assert unbounded == {"workload.arrival.tiers"}  # limits: above any latency they limit nothing
