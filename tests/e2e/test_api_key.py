"""A study whose load is apart from its engine: the key of each trial lets the load in, and is seen nowhere."""

import time
from pathlib import Path

import pytest

from tests.e2e.conftest import Wattfront
from tuner.results.reader import results
from tuner.trial.result import Completed

pytestmark = pytest.mark.process


def argument_lists(product: Wattfront) -> bytes:
    lists = []
    for process in product.marked():
        path = Path(f"/proc/{process.pid}/cmdline")
        lists.append(path.read_bytes() if path.exists() else b"")
    return b"\n".join(lists)


def test_the_key_of_a_trial_lets_its_load_in_and_is_seen_nowhere(wattfront: Wattfront) -> None:
    keys, engine = wattfront.folder / "keys", "engine.llamacpp.env"
    keys.mkdir()
    stub = [word for word in wattfront.stub("confess") if not word.startswith("topology")]
    arguments = [
        *[word for word in stub if word != "tracking=none"],
        *("hardware=h200", "topology=tp1", "cluster.nodes=2", "cluster.gpus=1", "search.trials=2"),
        *("workload.placement=apart", "workload.shards=1", f"{engine}.STUB_KEYS={keys}"),
        "engine.llamacpp.start_timeout_s=90",
    ]
    seen = b""
    with wattfront.start("tune", *arguments) as driver:
        deadline = time.monotonic() + 400
        while driver.poll() is None:
            assert time.monotonic() < deadline, "the study does not end"
            seen += argument_lists(wattfront)
            time.sleep(0.5)
        output, _ = driver.communicate()
    found = [each.result for each in results(wattfront.study())]
    completed = [each for each in found if isinstance(each, Completed)]
    assert len(completed) == len(found) >= 1, output
    made = {path.name for path in keys.iterdir()}
    assert len(made) == len(found), output
    assert all(point.metrics["error_rate"] == 0 for each in completed for point in each.points)
    assert all("LLAMA_API_KEY='***'" in each.command for each in completed)
    folder = wattfront.study()
    logs = [path.read_text() for path in folder.rglob("engine.log")]
    assert logs
    assert all("my key is ***" in log for log in logs)
    stored = [path for path in folder.parent.rglob("*") if path.is_file()]
    assert any("mlflow" in str(path) for path in stored)
    for key in map(str.encode, made):
        assert key not in output.encode() + seen
        assert [path for path in stored if key in path.read_bytes()] == []
