"""The shipped tables against step times of the kernel database itself, recorded by record_samples.py."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.twin.tables.library import Library
from serving.twin.tables.steptime import TableKey

SAMPLES: list[dict[str, Any]] = json.loads(
    Path(__file__).with_name("recorded_samples.json").read_text()
)
MEDIAN, P95 = 0.01, 0.05
# Sparse attention (DSA) switches kernels at prompts of 2048 tokens: a jump inside cells of the table.
P95_SPARSE = 0.1


def errors(sample: dict[str, Any]) -> list[float]:
    table = Library.shipped().table(TableKey(*sample["key"]))
    return [abs(table.step_s(*asked) / seconds - 1) for *asked, seconds in sample["queries"]]


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: "-".join(map(str, sample["key"])))
def test_a_table_agrees_with_the_kernel_database(sample: dict[str, Any]) -> None:
    found = errors(sample)
    assert np.median(found) < MEDIAN
    assert np.quantile(found, 0.95) < (P95_SPARSE if "glm-5" in sample["key"] else P95)


def test_the_samples_cover_all_systems_and_frameworks() -> None:
    keys = [TableKey(*sample["key"]) for sample in SAMPLES]
    assert len(keys) >= 20
    assert len({(key.system, key.framework) for key in keys}) == 9
    assert sum(len(sample["queries"]) for sample in SAMPLES) >= 600
    pooled = np.concatenate([errors(sample) for sample in SAMPLES])
    assert np.quantile(pooled, 0.95) < 0.03
