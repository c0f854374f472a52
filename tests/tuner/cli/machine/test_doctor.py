"""The doctor of a cluster: what its nodes have in common is one row."""

import pytest

from serving.install.doctor import Check
from tests.tuner.cli.fixtures import Captured, one_line
from tuner.cli.machine.doctor import grouped
from tuner.cli.parser import main


def test_nodes_that_have_the_same_are_one_row() -> None:
    old, new = Check("vllm", "ok", "vllm 0.32.0"), Check("vllm", "ok", "vllm 0.33.0")
    none = Check("vllm", "missing", "no vllm on PATH", "install it")
    python = Check("python", "ok", "3.11")
    nodes = {f"n{each}": [python, old] for each in range(5)} | {"m": [python, new, none]}
    assert grouped(nodes) == {
        python: "all 6",
        old: "n0, n1, n2 and 2 more",
        new: "m",
        none: "m",
    }


def test_no_cluster_to_ask(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    assert main(["doctor", "--nodes"]) == 4
    assert "127.0.0.1:9" in one_line(capsys)
