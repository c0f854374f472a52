"""The catalogue of metrics: complete, and in agreement with what is measured and configured."""

from collections.abc import Iterator

import pytest

from loadgen.results.metrics import METRICS
from serving.telemetry.validity import Verdict
from serving.topology import Model, Topology
from tests.tuner.metrics.test_derive import B300, estimate
from tests.tuner.metrics.test_earnings import PRICES, RENTED
from tuner.config.compose import conf_dir
from tuner.config.fields import field_at
from tuner.config.groups.economics import Economics, Facility
from tuner.config.groups.objective import ObjectiveConfig, Tier
from tuner.config.own_files import from_yaml
from tuner.config.study import StudyConfig
from tuner.config.trial import TrialConfig
from tuner.metrics.catalogue import CATALOGUE, SECTIONS, SIGNED, axis_label
from tuner.metrics.catalogue.earnings import EARNINGS
from tuner.metrics.energy import Metering, energy_figures
from tuner.trial.result import Completed
from tuner.trial.simulate import simulate_trial

WHOLE = Economics(
    capacity=RENTED,
    prices=PRICES,
    facility=Facility(pue=estimate(1.3), host_w_per_device=estimate(300)),
)
# Prefill and decode on separate boards, so that there is energy of each role.
TRIAL = TrialConfig.model_validate(
    {
        "engine": {"kind": "vllm"},
        "model": Model(
            name="m",
            source="meta-llama/Llama-3.3-70B-Instruct",
            context_tokens=4096,
            vocabulary=128256,
        ),
        "topology": Topology(tensor_parallel=2),
        "hardware": B300.model_copy(update={"twin": None}).model_dump()
        | {"twin": {"system": "b300_sxm", "pools": {"prefill": 1, "decode": 1}}},
        "workload": {
            "name": "w",
            "input_tokens": 512,
            "output_tokens": 64,
            "arrival": {"kind": "closed", "concurrency": [4]},
            "warmup_s": 1,
            "level_s": 5,
        },
        "economics": WHOLE,
    }
)


def objectives() -> Iterator[tuple[str, ObjectiveConfig]]:
    for path in sorted((conf_dir() / "objective").glob("*.yaml")):
        yield path.stem, ObjectiveConfig.model_validate(from_yaml(path))


def test_every_entry_is_complete() -> None:
    for name, metric in CATALOGUE.items():
        assert metric.name == name
        assert metric.unit, name
        assert metric.label, name
        assert metric.meaning, name
        assert metric.per_device == ("{device}" in metric.label), name
    assert len(CATALOGUE) == sum(map(len, SECTIONS.values())), "no name in two sections"


def test_all_metrics_of_a_trial_are_in_it() -> None:
    result = simulate_trial(TRIAL).result
    assert isinstance(result, Completed), result
    for point in result.points:
        assert set(point.metrics) | set(point.reasons) <= set(CATALOGUE)
        assert set(EARNINGS) <= set(point.metrics)
        assert point.metrics["decode_energy_j_per_output_tok"]


def test_all_metrics_of_a_metered_node_are_in_it() -> None:
    verdicts = {each: Verdict({"all": 1000.0}) for each in ("gpu", "cpu", "dram", "node")}
    rates = {"throughput_output_tok_s": 100.0, "throughput_total_tok_s": 900.0}
    found, reasons = energy_figures(rates, Metering(verdicts), 10.0, 8, 8)  # type: ignore[arg-type]
    assert {"node_power_w_device", "cpu_power_w", "dram_power_w"} <= set(found)
    assert set(found) | set(reasons) <= set(CATALOGUE)


def test_directions_agree_with_the_objectives_in_conf() -> None:
    for name, objective in objectives():
        for axis in (objective.target, *objective.axes):
            assert CATALOGUE[axis.metric].direction == axis.direction, (name, axis.metric)


def test_directions_agree_with_the_load_generator() -> None:
    for metric in METRICS:
        assert CATALOGUE[metric.name].direction == metric.direction


def test_less_is_better_of_every_metric_that_a_tier_limits() -> None:
    assert {CATALOGUE[name].direction for name in Tier.model_fields} == {"min"}


def test_only_margins_and_the_counter_error_are_signed() -> None:
    assert {
        "margin_usd_device_hour",
        "provisioned_margin_usd_mw_year",
        "facility_margin_usd_mw_year",
        "power_counter_error",
    } == SIGNED


def test_every_need_is_a_key_of_the_configuration() -> None:
    keys = {key for metric in CATALOGUE.values() for key in metric.needs}
    assert len(keys) == 5
    for key in keys:
        assert field_at(StudyConfig, key.split(".")) is not None, key


@pytest.mark.parametrize(
    ("metric", "label"),
    [
        ("throughput_output_tok_s_device", "output tok/s per GPU"),
        ("facility_total_tok_s_mw", "input + output tok/s per MW of the facility"),
        ("provisioned_j_per_output_tok", "provisioned J per output token"),
        ("e2e_p50_ms", "end to end p50 (ms)"),
        ("ttft_mean_ms", "TTFT mean (ms)"),
        ("margin_usd_device_hour", "margin, $ per GPU-hour"),
        ("not_a_metric", "not_a_metric"),
    ],
)
def test_axis_labels(metric: str, label: str) -> None:
    assert axis_label(metric, "GPU") == label
