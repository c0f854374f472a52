"""The shipped tables against what the oracle itself said: recorded by record_samples.py."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.twin.tables.library import Library
from serving.twin.tables.steptime import TableKey

SAMPLES: list[dict[str, Any]] = json.loads(
    Path(__file__).with_name("oracle_samples.json").read_text()
)
MEDIAN, P95 = 0.01, 0.05
# Sparse attention (DSA) takes another kernel where a prompt has 2048 tokens: a cliff across the cells.
P95_SPARSE = 0.1


def errors(sample: dict[str, Any]) -> list[float]:
    table = Library.shipped().table(TableKey(*sample["key"]))
    return [abs(table.step_s(*asked) / seconds - 1) for *asked, seconds in sample["queries"]]


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: "-".join(map(str, sample["key"])))
def test_a_table_is_near_its_oracle(sample: dict[str, Any]) -> None:
    found = errors(sample)
    assert np.median(found) < MEDIAN
    assert np.quantile(found, 0.95) < (P95_SPARSE if "glm-5" in sample["key"] else P95)


def test_the_samples_are_a_spread() -> None:
    keys = [TableKey(*sample["key"]) for sample in SAMPLES]
    assert len(keys) >= 20
    assert len({(key.system, key.framework) for key in keys}) == 9
    assert sum(len(sample["queries"]) for sample in SAMPLES) >= 600
    everything = np.concatenate([errors(sample) for sample in SAMPLES])
    assert np.quantile(everything, 0.95) < 0.03
