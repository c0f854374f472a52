"""One trial against a fake endpoint: its levels become points, and the result says what ended its load."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from loadgen import Progress
from serving.endpoint import Endpoint
from serving.errors import EngineHung
from serving.launch import LaunchSpec
from tests.loadgen.fake_server import Behaviour, FakeServer, fake_server
from tests.tuner.samples.points import CONFIG
from tuner.config.trial import TrialConfig
from tuner.trial.bottleneck import explained
from tuner.trial.result import Completed, Failed, TrialResult
from tuner.trial.run import run_trial

pytestmark = pytest.mark.process


class Standing:
    """An engine that runs already."""

    def __init__(self, server: FakeServer, hung: EngineHung | None = None) -> None:
        self._url, self.hung, self.canaries = server.url, hung, list[bool]()

    @contextmanager
    def engine(self, spec: LaunchSpec) -> Iterator[Endpoint]:
        spec.log.write_text("ready\n")
        yield Endpoint(self._url, "m", "1", 0, ("cores 0",), 0.5, ("serve",), ())

    def confirm(self, endpoint: Endpoint, canary: bool = False) -> None:
        self.canaries.append(canary)
        if canary and self.hung is not None:
            raise self.hung


def trial(arrival: dict[str, Any]) -> TrialConfig:
    changes = {
        "input_tokens": 4, "output_tokens": 4, "warmup_s": 0.05, "level_s": 0.3,
        "level_max_s": 2.0, "arrival": arrival,
    }  # fmt: skip
    data = CONFIG.model_dump()
    return TrialConfig.model_validate({**data, "workload": {**data["workload"], **changes}})


def measured(
    server: FakeServer, arrival: dict[str, Any], tick: Callable[[Progress], None] = lambda _: None
) -> TrialResult:
    return run_trial(trial(arrival), Standing(server), tick).result


def test_points_rise_with_the_load_in_whatever_order_they_were_measured() -> None:
    ladder = {"kind": "adaptive", "highest": 16, "levels": 5, "tiers": {"a": {"ttft_p50_ms": 25}}}
    with fake_server(Behaviour(ttft_s=0.01, workers=2)) as server:
        result = measured(server, ladder)
    assert isinstance(result, Completed)
    users = [int(point.load.removeprefix("closed ")) for point in result.points]
    assert users == sorted(users)
    assert [point.level for point in result.points] != sorted(p.level for p in result.points)
    assert result.cut_short == ""


def test_an_endpoint_that_gives_up_keeps_the_levels_before() -> None:
    with fake_server() as server:

        def tick(progress: Progress) -> None:
            server.behaviour.status = 500 if progress.level else 200

        result = measured(server, {"kind": "closed", "concurrency": [1, 2, 3]}, tick)
    assert isinstance(result, Completed)
    assert [point.load for point in result.points] == ["closed 1"]
    assert result.cut_short.startswith("EndpointErrors: ")


@pytest.mark.thorough
def test_a_load_that_ends_with_an_error_asks_whether_the_engine_hangs() -> None:
    """One that measured all its levels does not: no request puts a measured curve at risk."""
    hung = EngineHung("no answer", phase="under load", remedy="Leave it out.")
    with fake_server() as server:
        standing = Standing(server, hung)
        whole = trial({"kind": "closed", "concurrency": [1]})
        assert isinstance(run_trial(whole, standing, lambda _: None).result, Completed)
        assert standing.canaries == [False]
        server.behaviour.status = 500
        result = run_trial(whole, standing, lambda _: None).result
        assert standing.canaries == [False, True]
        assert isinstance(result, Failed)
        assert (result.failure, result.phase, result.remedy) == (
            *("EngineHung", "under load"),
            "Leave it out.",
        )

        def tick(progress: Progress) -> None:
            server.behaviour.status = 500 if progress.level else 200

        later = trial({"kind": "closed", "concurrency": [1, 2]})
        assert isinstance(run_trial(later, Standing(server, hung), tick).result, Failed)


@pytest.mark.parametrize(
    "arrival",
    [
        {"kind": "ramp", "from_per_s": 20, "to_per_s": 80, "over_s": 1},
        {"kind": "poisson", "rate_per_s": [40.5]},
    ],
    ids=lambda arrival: str(arrival["kind"]),
)
def test_loads_without_a_number_of_users_are_points_as_well(arrival: dict[str, Any]) -> None:
    with fake_server() as server:
        result = measured(server, arrival)
    assert isinstance(result, Completed)
    (point,) = result.points
    assert point.load in ("ramp 20 to 80/s", "poisson 40.5/s")
    assert point.metrics["throughput_output_tok_s_device"]


def test_a_load_that_can_not_be_made_is_a_failure() -> None:
    config = trial({"kind": "closed", "concurrency": [1]})
    dataset = {"kind": "azure", "path": "/nowhere/a.csv"}
    data = config.model_dump()
    lost = TrialConfig.model_validate(data | {"workload": data["workload"] | {"dataset": dataset}})
    with fake_server() as server:
        result = run_trial(lost, Standing(server), lambda _: None).result
    assert isinstance(result, Failed)
    assert result.failure == "BadWorkload"
    assert "/nowhere/a.csv" in result.evidence


def test_an_engine_without_metrics_is_a_reason_and_no_failure() -> None:
    with fake_server() as server:
        found = run_trial(trial({"kind": "closed", "concurrency": [1]}), Standing(server), print)
    assert isinstance(found.result, Completed)
    (point,) = found.result.points
    assert point.metrics["engine_running_max"] is None
    assert "/metrics has no series that is known" in point.reasons["engine_running_max"]
    assert str(found.result.provenance["engine_metrics"]).startswith("unavailable: /metrics ")
    assert "engine_metrics.parquet" not in found.files


def test_what_the_engine_reports_is_in_the_points_and_a_file() -> None:
    page = b"llamacpp:requests_processing 1\nllamacpp:requests_deferred 7\n"
    levels = {"level_s": 2.5, "level_max_s": 6.0}
    config = trial({"kind": "closed", "concurrency": [8]})
    data = config.model_dump()
    slow = TrialConfig.model_validate(data | {"workload": data["workload"] | levels})
    with fake_server(Behaviour(page=page)) as server:
        found = run_trial(slow, Standing(server), lambda _: None)
    assert isinstance(found.result, Completed)
    (point,) = found.result.points
    assert (point.metrics["engine_running_max"], point.metrics["engine_waiting_mean"]) == (1, 7)
    assert point.metrics["engine_kv_cache_share_max"] is None
    assert str(found.result.provenance["engine_metrics"]).startswith("/metrics read ")
    table = pq.read_table(pa.BufferReader(found.files["engine_metrics.parquet"]))
    assert set(table["waiting"].to_pylist()) == {7.0}
    assert explained(slow, found.result.points) == {
        0: "8 users, but at most 1 runs at once; 7 wait"
    }
