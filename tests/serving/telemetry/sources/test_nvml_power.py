"""GPU power through real pynvml on a fake driver: each way in which a driver answers, or does not."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from serving.telemetry.meter import Recorder
from serving.telemetry.nvml import driver
from serving.telemetry.sources import nvml_power
from serving.telemetry.sources.config import Nvml
from serving.telemetry.sources.factory import Place, metered_source
from serving.telemetry.trace import PowerTrace
from serving.telemetry.validity import COUNTER, SAMPLED, Verdict, judged
from tests.serving.fake_nvml import (
    LOST,
    NO_PERMISSION,
    NOT_LOADED,
    NOT_SUPPORTED,
    UNKNOWN,
    State,
)

pytestmark = pytest.mark.thorough

BOTH = ("0", "1")


@contextmanager
def metered(gpus: Sequence[str] = BOTH, root: int | None = None) -> Iterator[Recorder]:
    with metered_source(
        Nvml(), Place(gpus=tuple(gpus), roots=() if root is None else (root,))
    ) as recorder:
        yield recorder


def window(
    gpus: Sequence[str] = BOTH,
    *,
    change: Callable[[], None] = lambda: None,
    root: int | None = None,
    expected: int = 2,
) -> tuple[PowerTrace, Verdict, tuple[int, int]]:
    """Half a second, with a change in its middle."""
    with metered(gpus, root) as recorder:
        begin_ns = time.monotonic_ns()
        time.sleep(0.25)
        change()
        time.sleep(0.25)
        end_ns = time.monotonic_ns()
    trace = recorder.trace()
    return trace, judged(trace, "gpu", begin_ns, end_ns, expected), (begin_ns, end_ns)


def test_joules_are_those_that_were_drawn(nvml: State) -> None:
    nvml.gpus[0].draw(400.0)
    nvml.gpus[1].draw(250.0)
    trace, verdict, ends = window()
    assert verdict.reasons == ()
    assert verdict.method == COUNTER
    assert trace.power_kind == "instant"
    assert verdict.joules is not None
    # Counters of 20 ms at either end of half a second.
    for index, joules in enumerate(verdict.joules.values()):
        assert joules == pytest.approx(nvml.gpus[index].joules(*ends), rel=0.08)
    assert abs(verdict.counter_error or 9) < 0.08


def test_all_that_a_driver_reports_is_kept_in_base_units(nvml: State) -> None:
    nvml.gpus[0].draw(400.0)
    trace, _, _ = window()
    columns = trace.devices[0].columns
    assert trace.devices[0].device.name == "GPU-00000000"
    told = {name: float(trace.devices[0].reported(name)[1][0]) for name in columns}
    assert told["energy_j"] == pytest.approx(1e6, rel=0.01)
    assert told["power_w"] == 400.0
    assert told["limit_w"] == 700.0
    assert (told["sm_clock_mhz"], told["memory_clock_mhz"]) == (1980, 2619)
    assert (told["temperature_c"], told["memory_bytes"]) == (41, 10 << 30)
    assert told["throttle"] == 0


def test_without_a_counter_sampled_power_is_integrated(nvml: State) -> None:
    for gpu in nvml.gpus:
        gpu.energy_rc = NOT_SUPPORTED
    nvml.gpus[0].draw(300.0)
    _, verdict, ends = window()
    assert verdict.method == SAMPLED
    assert verdict.joules is not None
    drawn = nvml.gpus[0].joules(*ends)
    assert verdict.joules["GPU-00000000"] == pytest.approx(drawn, rel=0.02)
    assert verdict.counter_error is None


def test_without_instantaneous_power_it_is_the_average(nvml: State) -> None:
    for gpu in nvml.gpus:
        gpu.instant_rc = NOT_SUPPORTED
        gpu.draw(300.0, base_j=1e6)
    trace, verdict, _ = window()
    assert trace.power_kind == "average"
    assert verdict.reasons == ()


def test_a_mig_slice_has_no_joules(nvml: State) -> None:
    nvml.gpus[1].mig = 1
    _, verdict, _ = window(("MIG-00000001",), expected=1)
    assert verdict.joules is None
    assert len(verdict.reasons) == 1
    assert "a MIG slice has no power reading of its own" in verdict.reasons[0]


def test_a_lost_gpu_has_no_joules(nvml: State) -> None:
    def lose() -> None:
        nvml.gpus[1].lost_rc = LOST

    _, verdict, _ = window(change=lose)
    assert verdict.joules is None
    [reason] = verdict.reasons
    assert reason.startswith("GPU-00000001: energy counter covers ")
    assert "GPU is lost" in reason


def test_a_lack_of_permission_says_so(nvml: State) -> None:
    nvml.gpus[0].energy_rc = nvml.gpus[0].power_rc = NO_PERMISSION
    _, verdict, _ = window()
    [reason] = verdict.reasons
    assert "Insufficient Permissions" in reason


def test_a_reset_counter_invalidates_the_window(nvml: State) -> None:
    _, verdict, _ = window(change=lambda: nvml.gpus[0].draw(80.0, base_j=0.0))
    assert verdict.joules is None
    assert "GPU-00000000: its energy counter decreased: it was reset" in verdict.reasons


def test_a_counter_and_a_power_of_different_units_are_noticed(nvml: State) -> None:
    """As if one of them were off by a factor of 1,000."""
    nvml.gpus[0].draw(400.0)
    with metered() as recorder:
        time.sleep(0.5)
    wrong = [each for each in recorder.readings if each.device == "GPU-00000000"]
    trace = recorder.trace()
    trace.devices[0].columns["power_w"][:] /= 1000
    verdict = judged(trace, "gpu", wrong[0].at_ns, wrong[-1].at_ns, 2)
    assert any("disagree" in reason for reason in verdict.reasons)


def test_a_short_outage_is_interpolated(nvml: State) -> None:
    nvml.gpus[0].energy_rc = UNKNOWN

    def recover() -> None:
        nvml.gpus[0].energy_rc = 0

    with metered() as recorder:
        time.sleep(0.15)
        recover()
        since = len(recorder.readings)
        while len(recorder.readings) < since + 4:  # both boards, and once more
            time.sleep(0.01)
        begin_ns = time.monotonic_ns()
        time.sleep(0.3)
        end_ns = time.monotonic_ns()
    assert judged(recorder.trace(), "gpu", begin_ns, end_ns, 2).reasons == ()


def test_without_a_driver_the_trace_says_why(
    state: State, load: Callable[[Path], None], library: Path
) -> None:
    state.init_rc = NOT_LOADED
    load(library)
    _, verdict, _ = window()
    [reason] = verdict.reasons
    assert reason.startswith("nvml metered 0 of 2 devices: NVML does not answer for GPU 0, 1: ")
    assert "Driver Not Loaded" in reason
    assert "Driver Not Loaded" in (driver().absent_because or "")


def test_a_gpu_that_is_not_there_is_named(nvml: State) -> None:
    _, verdict, _ = window(("GPU-0badc0de",), expected=1)
    assert "GPU-0badc0de" in verdict.reasons[0]


def test_an_old_driver_is_read_by_its_own_functions(
    state: State, load: Callable[[Path], None], old_library: Path
) -> None:
    load(old_library)
    state.gpus[0].draw(300.0)
    state.gpus[0].throttle = 0x8
    state.gpus[1].pids[0] = 1
    trace, verdict, _ = window()
    assert trace.power_kind == "average"
    assert verdict.method == SAMPLED
    assert "GPU-00000000: its clocks were throttled: hardware slowdown" in verdict.reasons
    assert any("other processes were on it: 1 " in reason for reason in verdict.reasons)


@pytest.mark.process
def test_processes_of_the_trial_are_not_foreign(nvml: State) -> None:
    script = "import subprocess, sys; subprocess.run(['sleep', '60'])"
    with subprocess.Popen([sys.executable, "-c", script]) as engine:
        try:
            nvml.gpus[0].pids[0] = engine.pid
            nvml.gpus[0].pids[1] = _child(engine.pid)
            nvml.gpus[0].pids[2] = 99_999_999  # of another container: nobody here can say whose
            _, alone, _ = window(root=engine.pid)
            assert alone.reasons == ()
            nvml.gpus[1].pids[0] = os.getpid()
            _, shared, _ = window(root=engine.pid)
            [reason] = shared.reasons
            assert reason.startswith(f"GPU-00000001: other processes were on it: {os.getpid()} ")
        finally:
            os.kill(_child(engine.pid), 15)
            engine.wait()


def _child(pid: int) -> int:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    while not (told := path.read_text().split()):
        time.sleep(0.01)
    return int(told[0])


def test_roles_keep_prefill_and_decode_apart(nvml: State) -> None:
    nvml.gpus[0].draw(600.0)
    nvml.gpus[1].draw(200.0)
    with nvml_power.opened(BOTH, ("prefill", "decode")) as source:
        readings = source.read()
        time.sleep(0.4)
        readings += source.read()
    assert {each.role for each in source.devices} == {"prefill", "decode"}
    with metered_source(Nvml(), Place(BOTH, ("prefill", "decode"))) as recorder:
        begin_ns = time.monotonic_ns()
        time.sleep(0.5)
        end_ns = time.monotonic_ns()
    roles = judged(recorder.trace(), "gpu", begin_ns, end_ns, 2).by_role
    assert roles["prefill"] / roles["decode"] == pytest.approx(3.0, rel=0.2)
