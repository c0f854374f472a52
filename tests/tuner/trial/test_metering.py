"""A trial with its power metered: a fake endpoint, real pynvml on a fake driver, and what comes of it."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from loadgen import Progress
from serving.endpoint import Endpoint
from serving.launch import LaunchSpec, launched
from serving.telemetry import power_file
from serving.telemetry.base import SW_POWER_CAP, Device, Reading
from serving.telemetry.sources.config import PowerConfig
from serving.topology import Layout, Topology
from serving.twin.config import Pools, TwinConfig
from tests.loadgen.fake_server import fake_server
from tests.serving.fake_nvml import LOST, NO_PERMISSION, State
from tests.serving.nvml_fixtures import library, load, nvml, state
from tests.serving.telemetry.sources.recordings import to_jsonl
from tests.tuner.samples.points import CONFIG
from tests.tuner.trial.test_simulate import trial as virtual_trial
from tuner.config.errors import ConfigError
from tuner.config.load import load as load_study
from tuner.config.resolve import trial_config
from tuner.config.trial import TrialConfig
from tuner.metrics.energy import NOT_METERED
from tuner.trial.metering import gpu_roles
from tuner.trial.result import Completed, Failed, Measured
from tuner.trial.run import run_trial
from tuner.trial.simulate import simulate_trial

pytestmark = [pytest.mark.process, pytest.mark.alone]

__all__ = ["library", "load", "nvml", "state"]
IDLE_W, LOADED_W, BUSY_W = 80.0, 120.0, 400.0


class Standing:
    """An engine on two GPUs that draws more when it stands; this very process is its first."""

    def __init__(self, url: str, gpus: State) -> None:
        self._url, self._gpus = url, gpus

    def devices(self) -> tuple[str, ...]:
        return ("0", "1")

    @contextmanager
    def engine(self, spec: LaunchSpec) -> Iterator[Endpoint]:
        self.draw(LOADED_W)
        self.limits_w = [gpu.limit_mw / 1000 for gpu in self._gpus.gpus[:2]]
        yield Endpoint(self._url, "m", "1", os.getpid(), self.devices(), 0.5, ("serve",), ())

    def confirm(self, endpoint: Endpoint, canary: bool = False) -> None: ...

    def draw(self, watts: float) -> None:
        for gpu in self._gpus.gpus[:2]:
            gpu.draw(watts)


def trial(**power: Any) -> TrialConfig:
    data = CONFIG.model_dump()
    hardware = {**data["hardware"], "device": "GPU", "devices_per_node": 2}
    arrival = {"kind": "closed", "concurrency": [2]}
    load_ = {
        "input_tokens": 4,
        "output_tokens": 4,
        "warmup_s": 0.3,
        "level_s": 1.0,
        "level_max_s": 3.0,
    }
    return TrialConfig.model_validate(
        {
            **data,
            "topology": {"tensor_parallel": 2},
            "hardware": hardware,
            "workload": {**data["workload"], **load_, "arrival": arrival},
            "power": {"idle_s": 0.4, "sources": {"gpu": {"kind": "nvml"}}, **power},
        }
    )


def measured(
    config: TrialConfig, gpus: State, on_progress: Callable[[Progress], None] = lambda _: None
) -> tuple[Measured, Standing]:
    with fake_server() as server:
        application = Standing(server.url, gpus)
        busy = False

        def tick(progress: Progress) -> None:
            nonlocal busy
            if not busy:
                busy = True
                application.draw(BUSY_W)
            on_progress(progress)

        return run_trial(config, application, tick), application


def test_joules_of_a_trial_are_those_of_its_gpus(nvml: State) -> None:
    found, _ = measured(trial(), nvml)
    assert isinstance(found.result, Completed)
    [point] = found.result.points
    metrics = {name: value or 0.0 for name, value in point.metrics.items()}
    assert metrics["power_valid"] == 1.0, point.reasons
    assert metrics["power_idle_w_device"] == pytest.approx(IDLE_W, rel=0.1)
    assert metrics["power_loaded_idle_w_device"] == pytest.approx(LOADED_W, rel=0.1)
    assert metrics["power_w_device"] == pytest.approx(BUSY_W, rel=0.1)
    rate = metrics["throughput_output_tok_s"]
    per_token, net = metrics["energy_j_per_output_tok"], metrics["net_energy_j_per_output_tok"]
    assert per_token * rate == pytest.approx(2 * metrics["power_w_device"])
    assert (per_token - net) * rate == pytest.approx(2 * metrics["power_loaded_idle_w_device"])
    assert metrics["sm_clock_mhz"] == 1980
    assert (metrics["power_capped_share"], metrics["temperature_c_max"]) == (0, 41)
    assert found.result.provenance["power"] == ["nvml: instant power"]


def test_boards_that_ran_into_their_limit_say_so(nvml: State) -> None:
    nvml.gpus[1].throttle = SW_POWER_CAP
    found, _ = measured(trial(idle_s=0), nvml)
    assert isinstance(found.result, Completed)
    [point] = found.result.points
    assert point.metrics["power_valid"] == 1.0, point.reasons
    # One board of two; a reading more of either is at the ends of the window, and shifts it a little.
    assert point.metrics["power_capped_share"] == pytest.approx(0.5, abs=0.1)


def test_raw_readings_are_kept_beside_the_records(nvml: State) -> None:
    found, _ = measured(trial(idle_s=0), nvml)
    assert {"records.parquet", "power.parquet"} <= set(found.files)
    kind, devices, readings = power_file.read(found.files[power_file.FILE])
    assert kind == "instant"
    assert [each.name for each in devices] == ["GPU-00000000", "GPU-00000001"]
    assert len(readings) > 10
    assert isinstance(found.result, Completed)
    [point] = found.result.points
    assert "power.idle_s is 0" in point.reasons["net_energy_j_per_output_tok"]


def test_a_gpu_that_is_lost_costs_the_joules_and_not_the_point(nvml: State) -> None:
    def lose(progress: Progress) -> None:
        if progress.phase == "measure":
            nvml.gpus[1].lost_rc = LOST

    found, _ = measured(trial(), nvml, lose)
    assert isinstance(found.result, Completed)
    [point] = found.result.points
    assert point.metrics["throughput_output_tok_s"]
    assert point.metrics["power_valid"] == 0.0
    assert point.metrics["energy_j_per_output_tok"] is None
    assert "GPU is lost" in point.reasons["energy_j_per_output_tok"]


def test_a_power_limit_holds_for_the_trial_and_no_longer(
    nvml: State, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", str(library.parent))
    found, application = measured(trial(limit_w=500, idle_s=0), nvml)
    assert isinstance(found.result, Completed)
    assert application.limits_w == [500.0, 500.0]
    assert [gpu.limit_mw for gpu in nvml.gpus[:2]] == [700_000, 700_000]


def test_gpus_that_the_engine_does_not_use_fail_the_trial(nvml: State) -> None:
    """Its figures per GPU would be half of what they are."""
    nvml.gpus[0].pids[0] = os.getpid()
    found, _ = measured(trial(idle_s=0), nvml)
    assert isinstance(found.result, Failed)
    assert (found.result.failure, found.result.phase) == ("GpusUnused", "start")
    assert found.result.evidence.startswith("1 of 2 reserved GPUs runs no process of the engine: ")


def test_a_power_limit_that_is_denied_is_a_failed_trial(
    nvml: State, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", str(library.parent))
    nvml.gpus[0].set_rc = NO_PERMISSION
    found, _ = measured(trial(limit_w=500, idle_s=0), nvml)
    assert isinstance(found.result, Failed)
    assert found.result.failure == "PowerCapDenied"
    assert "root or CAP_SYS_ADMIN" in found.result.evidence


KILLED = """
    import time
    from tests.serving.fake_nvml import shared_state
    from tests.tuner.trial.test_metering import Standing, trial
    from tuner.trial.run import run_trial

    class Hanging(Standing):
        def draw(self, watts):
            print("standing", flush=True)
            time.sleep(600)

    run_trial(trial(limit_w=450, idle_s=0), Hanging("http://127.0.0.1:1", None), lambda _: None)
"""


def test_a_trial_that_is_killed_leaves_no_limit(
    state: State, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", str(library.parent))
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(KILLED)], cwd=Path(__file__).parents[3],
        stdout=subprocess.PIPE,
    ) as owner:  # fmt: skip
        assert owner.stdout is not None
        try:
            assert owner.stdout.readline() == b"standing\n"
            assert [gpu.limit_mw for gpu in state.gpus[:2]] == [450_000, 450_000]
        finally:
            owner.send_signal(signal.SIGKILL)
            owner.wait()
    deadline = time.monotonic() + 20
    while state.gpus[0].limit_mw != 700_000 or state.gpus[1].limit_mw != 700_000:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_recorded_trace_stands_for_boards(nvml: State, tmp_path: Path) -> None:
    """Two boards, one twice the other, as if drawn now; nothing else is asked."""
    path, devices = tmp_path / "h100.jsonl.gz", [Device("a", "gpu"), Device("b", "gpu")]
    rows = [
        Reading(i * 10**8, name, watts * i / 10, watts)
        for i in range(200)
        for name, watts in (("a", 200.0), ("b", 400.0))
    ]
    path.write_bytes(to_jsonl(("instant", devices, rows), {"date": "2026-11-26"}))
    found, _ = measured(trial(sources={"gpu": {"kind": "recorded", "path": str(path)}}), nvml)
    assert isinstance(found.result, Completed)
    [point] = found.result.points
    assert point.metrics["power_w_device"] == pytest.approx(300.0, rel=1e-6), point.reasons
    assert point.metrics["power_counter_error"] == pytest.approx(0.0, abs=1e-6)
    assert point.reasons["power_idle_w_device"] == NOT_METERED


def test_on_the_virtual_clock_boards_are_metered_too() -> None:
    pools = {"prefill": 2, "decode": 1, "prefill_topology": {"tensor_parallel": 1}}
    load_ = {"input_tokens": 3000, "output_tokens": 200, "level_s": 20}
    config = virtual_trial(users=(8,), workload=load_, tensor=2, twin={"pools": pools})
    result = simulate_trial(config).result
    assert isinstance(result, Completed)
    [point] = result.points
    metrics = {name: value or 0.0 for name, value in point.metrics.items()}
    assert metrics["power_valid"] == 1.0, point.reasons
    seconds_watts = metrics["power_w_device"] * 4
    output, total = (metrics[f"throughput_{each}_tok_s"] for each in ("output", "total"))
    apart = metrics["prefill_energy_j_per_input_tok"] * (total - output)
    apart += metrics["decode_energy_j_per_output_tok"] * output
    assert apart == pytest.approx(seconds_watts)
    idle_w = metrics["power_loaded_idle_w_device"]
    assert 100 < idle_w < metrics["power_w_device"]
    net = metrics["net_energy_j_per_output_tok"]
    assert net * output == pytest.approx(seconds_watts - 4 * idle_w)
    assert "before its engine is ready" in point.reasons["power_idle_w_device"]


class Emulated:
    def devices(self) -> tuple[str, ...]:
        pytest.fail("no GPU of this machine is asked for")

    @contextmanager
    def engine(self, spec: LaunchSpec) -> Iterator[Endpoint]:
        with launched(spec, devices=("0", "1")) as running:
            yield running.endpoint

    def confirm(self, endpoint: Endpoint, canary: bool = False) -> None: ...


def test_on_the_wall_clock_a_twin_keeps_its_limit_and_tells_its_joules() -> None:
    load_ = {"level_s": 1.5, "level_max_s": 3, "warmup_s": 0.5}
    config = virtual_trial(users=(4,), workload=load_, tensor=2)
    capped = config.model_copy(update={"power": PowerConfig(limit_w=500)})
    found = run_trial(capped, Emulated(), lambda _: None)
    assert isinstance(found.result, Completed)
    [point] = found.result.points
    metrics = {name: value or 0.0 for name, value in point.metrics.items()}
    assert metrics["power_valid"] == 1.0, point.reasons
    assert metrics["power_loaded_idle_w_device"] == 176.0  # as `serving.twin.config.Power` has it
    assert 176.0 < metrics["power_w_device"] < 500.1
    assert found.result.provenance["power"] == ["twin: modelled power"]
    assert len(power_file.read(found.files[power_file.FILE])[1]) == 2


def test_how_it_is_metered_is_no_part_of_what_is_measured() -> None:
    plain = trial()
    assert trial(idle_s=9.0, sources={}).fingerprint == plain.fingerprint
    assert (
        CONFIG.model_copy(update={"power": PowerConfig(idle_s=0)}).fingerprint == CONFIG.fingerprint
    )
    limits = {
        plain.fingerprint,
        trial(limit_w=500).fingerprint,
        trial(sm_clock_mhz=1500).fingerprint,
    }
    assert len(limits) == 3


def test_one_knob_caps_emulated_and_real_gpus() -> None:
    common = ["experiment=b300_vllm", "space=power_cap"]
    for hardware in ("b300", "b300_twin"):
        study = load_study([*common, f"hardware={hardware}"])
        capped = trial_config(study, {"power.limit_w": 700})
        assert capped.power.limit_w == 700
        assert (capped.twin is None) == (hardware == "b300")
        if capped.twin is not None:
            assert capped.twin.power.cap_w == 700


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["power.limit_w=500"], "the trial uses no GPU"),
        (["hardware=b300_twin", "topology=tp8", "power.sm_clock_mhz=1500"], "have no clocks"),
        (
            [
                "hardware=b300_twin",
                "topology=tp8",
                "power.limit_w=700",
                "hardware.twin.power.cap_w=600",
            ],
            "set only one",
        ),
        (["power.sources.node={kind: redfsh}"], "redfish"),
        (["power.limit=500"], "limit_w"),
    ],
)
def test_power_that_can_not_be_is_one_line(overrides: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as error:
        load_study(["experiment=laptop_vllm", "space=none", *overrides])
    assert "\n" not in str(error.value)


def test_gpus_of_two_pools_are_told_apart() -> None:
    pools = Pools(prefill=2, decode=1, prefill_topology=Topology(tensor_parallel=2))
    twin = TwinConfig(system="b300_sxm", pools=pools)
    topology = Topology(tensor_parallel=4)
    config = trial_config(
        load_study(["experiment=b300_vllm", "hardware=b300_twin", "space=none"]), {}
    )
    hardware = config.hardware.model_copy(update={"twin": twin})
    split = config.model_copy(update={"topology": topology, "hardware": hardware})
    assert gpu_roles(split) == ("prefill",) * 4 + ("decode",) * 4
    assert gpu_roles(config) == ()


def test_gpus_of_engines_with_roles_are_told_apart() -> None:
    config = trial_config(load_study(["experiment=b300_vllm", "space=none"]), {})
    topology = Topology(tensor_parallel=2, prefill=Layout(tensor_parallel=1, replicas=3))
    split = config.model_copy(update={"topology": topology})
    assert gpu_roles(split) == ("prefill",) * 3 + ("decode",) * 2
