"""A study of emulated GPUs as a user runs it: Ray nodes with fake GPUs, three frameworks, real HTTP."""

import pytest

from tests.e2e.conftest import Wattfront
from tuner.results.ledger import results
from tuner.trial.result import Completed

pytestmark = pytest.mark.process

SMALL = (
    "experiment=b300",
    "tracking=none",
    "cluster.nodes=2",
    "search.trials=4",
    "search.confirm.candidates=0",
    "workload.arrival.concurrency=[1,4]",
    "workload.output_tokens=32",
    "workload.level_s=3",
    "workload.level_max_s=10",
)


def test_three_frameworks_on_emulated_nodes(wattfront: Wattfront) -> None:
    code, output = wattfront.run("tune", *SMALL)
    assert code in (0, 3), output  # on a busy machine no level may be valid
    found = [entry.result for entry in results(wattfront.study())]
    assert len(found) == 4
    assert {each.config.engine.kind for each in found} == {"vllm", "sglang", "trtllm"}
    for each in found:
        assert isinstance(each, Completed), each
        assert "aiconfigurator-core" in each.provenance["modelled"]
        assert "metrics read " in each.provenance["engine_metrics"]
        assert len(each.provenance["devices"]) == each.config.topology.tensor_parallel
        assert "serving.twin --system b300_sxm" in each.command
        for point in each.points:
            assert point.metrics["output_tokens_mean"] == 32
            assert 150 < (point.metrics["power_w_device"] or 0) < 1100.1
    assert "modelled" in output[output.index("Pareto") :]
    assert wattfront.leftovers(within_s=15) == []
