"""The ranges of a workload's numbers."""

from collections.abc import Iterator
from typing import Any, get_args

import pytest
from pydantic import BaseModel, ValidationError

from loadgen import Workload
from loadgen.workload import arrivals, lengths, workload

FIELDS = {"name": "x", "input_tokens": 8, "output_tokens": 8}
CLOSED = {"kind": "closed", "concurrency": [1]}


def test_a_level_schedules_no_more_requests_than_fit_memory() -> None:
    for arrival in (
        {"kind": "poisson", "rate_per_s": [1, 1e6]},
        {"kind": "ramp", "from_per_s": 1e6, "to_per_s": 1e6, "over_s": 3600},
        {"kind": "step", "rate_per_s": [1e6, 1], "each_s": 1800},
        {"kind": "adaptive", "loop": "constant", "highest": 1e6},
    ):
        with pytest.raises(ValidationError, match="requests; at most 20,000,000: lower the rate"):
            Workload.model_validate(FIELDS | {"arrival": arrival, "level_max_s": 3600})
    counted = {"arrival": {"kind": "poisson", "rate_per_s": [1e6]}, "max_requests": 100}
    assert Workload.model_validate(FIELDS | counted | {"level_max_s": 3600})


@pytest.mark.parametrize("value", [float("inf"), float("nan"), 1e23, 10**23, -1])
def test_every_number_has_a_range(value: float) -> None:
    for name in _numbers(Workload):
        with pytest.raises(ValidationError):
            Workload.model_validate(FIELDS | {"arrival": CLOSED} | {name: value})
    with pytest.raises(ValidationError):
        Workload.model_validate(FIELDS | {"arrival": {"kind": "closed", "concurrency": [value]}})


def test_models_that_are_not_strict_do_not_exist() -> None:
    models = [
        each
        for module in (arrivals, lengths, workload)
        for each in vars(module).values()
        if isinstance(each, type) and issubclass(each, BaseModel) and each is not BaseModel
    ]
    assert models
    assert all(each.model_config.get("allow_inf_nan") is False for each in models)


def _numbers(model: type[BaseModel]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        kinds: set[Any] = {field.annotation, *get_args(field.annotation)}
        if {int, float} & kinds:
            yield name


@pytest.mark.parametrize(
    ("changes", "warned"),
    [
        ({}, True),
        ({"output_tokens": {"kind": "range_ratio", "tokens": 8, "ratio": 1}}, True),
        ({"output_tokens": {"kind": "empirical", "values": [8, 8]}}, True),
        ({"arrival": {"kind": "adaptive"}}, True),
        ({"arrival": CLOSED}, False),  # one user
        ({"arrival": {"kind": "poisson", "rate_per_s": [1]}}, False),
        ({"arrival": {"kind": "adaptive", "loop": "poisson"}}, False),
        ({"output_tokens": {"kind": "range_ratio", "tokens": 8, "ratio": 0.8}}, False),
        ({"ignore_eos": False}, False),  # the model decides
    ],
)
def test_users_with_equal_answers_fall_into_step(changes: dict[str, Any], warned: bool) -> None:
    fields = FIELDS | {"arrival": {"kind": "closed", "concurrency": [1, 64]}} | changes
    assert bool(workload.lockstep(Workload.model_validate(fields))) is warned
    assert "\n" not in workload.lockstep(Workload.model_validate(fields))
