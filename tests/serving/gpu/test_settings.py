"""Power limits and clocks are restored however the trial ends. Proved by killing, on a fake driver."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from serving.errors import PowerCapDenied, PowerCapLeft, PowerCapLost
from serving.gpu.record import Original, load, recorded, save
from serving.gpu.settings import gpus_set
from tests.serving.fake_nvml import LOST, NO_PERMISSION, NOT_LOADED, State

pytestmark = pytest.mark.process

REPO = Path(__file__).parents[3]
# A shell's background job is born deaf to SIGINT.
OWNER = """
    import signal, sys, time
    signal.signal(signal.SIGINT, signal.default_int_handler)
    from serving.gpu.settings import gpus_set
    with gpus_set(["0", "1"], 450.0, 1500):
        print("set", flush=True)
        time.sleep(60)
"""


@pytest.fixture
def gpus(state: State, library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> State:
    monkeypatch.setenv("LD_LIBRARY_PATH", str(library.parent))
    monkeypatch.setenv("WATTFRONT_HOME", str(tmp_path / "home"))
    return state


@contextmanager
def setting_owner() -> Iterator[subprocess.Popen[bytes]]:
    """A process that has set both GPUs."""
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(OWNER)], cwd=REPO, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as owner:  # fmt: skip
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"set\n"
        try:
            yield owner
        finally:
            owner.kill()


def settings(state: State) -> list[tuple[int, int]]:
    return [(state.gpus[i].limit_mw, state.gpus[i].locked_mhz) for i in range(state.count)]


def becomes(state: State, wanted: list[tuple[int, int]], within_s: float = 20.0) -> bool:
    deadline = time.monotonic() + within_s
    while settings(state) != wanted and time.monotonic() < deadline:
        time.sleep(0.02)
    return settings(state) == wanted


def test_a_limit_and_a_clock_hold_for_the_block(gpus: State) -> None:
    gpus.gpus[1].limit_mw = 650_000  # an administrator's own
    with gpus_set(["0", "GPU-00000001"], 500.0, 1410):
        assert settings(gpus) == [(500_000, 1410)] * 2
    assert settings(gpus) == [(700_000, 0), (650_000, 0)]


def test_a_failure_inside_the_block_restores_too(gpus: State) -> None:
    with pytest.raises(RuntimeError, match="of the trial"), gpus_set(["0"], 300.0, None):
        raise RuntimeError("of the trial")
    assert settings(gpus) == [(700_000, 0)] * 2


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_an_owner_that_is_killed_leaves_no_limit(gpus: State, how: signal.Signals) -> None:
    with setting_owner() as owner:
        assert settings(gpus) == [(450_000, 1500)] * 2
        owner.send_signal(how)
        assert becomes(gpus, [(700_000, 0)] * 2)


def test_the_next_owner_waits_until_the_last_one_s_limit_is_restored(gpus: State) -> None:
    """Otherwise it would take the limit that it finds for the machine's own."""
    with setting_owner() as owner:
        owner.kill()
        with gpus_set(["0"], 300.0, None):
            assert settings(gpus)[0] == (300_000, 0)
    assert becomes(gpus, [(700_000, 0)] * 2)


def test_a_keeper_that_is_terminated_restores_first_and_is_noticed(gpus: State) -> None:
    """What was measured since then was not under the limit."""

    def end_keeper() -> None:
        os.kill(_keeper(), signal.SIGTERM)
        assert becomes(gpus, [(700_000, 0)] * 2)

    with (
        pytest.raises(PowerCapLost, match="did not hold until the end"),
        gpus_set(["0"], 400.0, None),
    ):
        end_keeper()
    assert not recorded()


def test_without_permission_nothing_is_set_and_the_error_says_what_is_needed(gpus: State) -> None:
    gpus.gpus[1].set_rc = NO_PERMISSION
    with (
        pytest.raises(PowerCapDenied, match=r"GPU-00000001.*Insufficient.*root or CAP_SYS_ADMIN"),
        gpus_set(["0", "1"], 400.0, None),
    ):
        pytest.fail("the block must not begin")
    assert settings(gpus) == [(700_000, 0)] * 2


@pytest.mark.parametrize(
    ("breakage", "limit_w", "said"),
    [
        (lambda state: None, 100.0, "100 W is not possible, only 200 to 700 W"),
        (lambda state: setattr(state, "init_rc", NOT_LOADED), 400.0, "Driver Not Loaded"),
        (lambda state: setattr(state.gpus[0], "lost_rc", LOST), 400.0, "GPU is lost"),
    ],
)
def test_what_can_not_be_set_is_denied(
    gpus: State, breakage: Callable[[State], None], limit_w: float, said: str
) -> None:
    breakage(gpus)
    with pytest.raises(PowerCapDenied, match=said), gpus_set(["0"], limit_w, None):
        pytest.fail("the block must not begin")


def test_a_failed_restore_has_the_command_that_restores_by_hand(gpus: State) -> None:
    by_hand = "nvidia-smi -i GPU-00000000 -pl 700"
    with pytest.raises(PowerCapLeft, match=by_hand), gpus_set(["0"], 400.0, None):
        gpus.gpus[0].set_rc = NO_PERMISSION
    gpus.gpus[0].set_rc = 0


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.parametrize(("limit_w", "clock_mhz"), [(400.0, None), (400.0, 1500), (None, 1500)])
def test_what_a_killed_keeper_has_set_is_restored_at_the_end_of_its_trial(
    gpus: State,
    how: signal.Signals,
    limit_w: float | None,
    clock_mhz: int | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One that stands still too. The trial fails: nobody watched its settings."""

    def end_keeper() -> None:
        os.kill(_keeper(), how)
        if how == signal.SIGSTOP:
            monkeypatch.setattr("serving.gpu.settings.ANSWER_S", 5.0)

    with (
        pytest.raises(PowerCapLost, match="did not hold until the end"),
        gpus_set(["0"], limit_w, clock_mhz),
    ):
        end_keeper()
    assert settings(gpus) == [(700_000, 0)] * 2
    assert not recorded()


@pytest.mark.parametrize(
    ("limit_w", "clock_mhz", "during"),
    [(300.0, None, (300_000, 0)), (None, None, (700_000, 0)), (None, 1200, (700_000, 1200))],
)
def test_the_next_trial_takes_nothing_that_a_killed_keeper_left_for_the_machine_s_own(
    gpus: State, limit_w: float | None, clock_mhz: int | None, during: tuple[int, int]
) -> None:
    """Keeper and owner are killed at once; also a trial without settings of its own restores."""
    with setting_owner() as owner:
        keeper = _keeper()
        os.kill(keeper, signal.SIGSTOP)
        owner.kill()
        os.kill(keeper, signal.SIGKILL)
    assert settings(gpus) == [(450_000, 1500)] * 2
    with gpus_set(["0", "1"], limit_w, clock_mhz):
        assert settings(gpus) == [during] * 2
    assert settings(gpus) == [(700_000, 0)] * 2
    assert not recorded()


def test_a_limit_that_somebody_set_since_is_left_alone(gpus: State) -> None:
    with setting_owner() as owner:
        keeper = _keeper()
        os.kill(keeper, signal.SIGSTOP)
        owner.kill()
        os.kill(keeper, signal.SIGKILL)
    gpus.gpus[0].limit_mw = 600_000
    with gpus_set(["0"], 300.0, None):
        pass
    assert settings(gpus)[0] == (600_000, 0)


def test_a_record_of_another_boot_or_a_broken_one_says_nothing(
    gpus: State, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    uuid = "GPU-00000000"
    save(uuid, Original(650_000, 700_000, clocks_locked=False))
    path = tmp_path / "home" / "gpus" / f"{uuid}.json"
    assert load(uuid) == Original(650_000, 700_000, clocks_locked=False)
    assert path.stat().st_mode & 0o777 == 0o600
    whole = path.read_text()
    for broken in (whole[:20], "", "[]", whole.replace("650000", '"x"'), whole.replace("-", "0")):
        path.write_text(broken)
        assert load(uuid) is None
        assert not recorded()
    with gpus_set(["0"], 300.0, None):
        pass
    assert settings(gpus)[0] == (700_000, 0)


def test_clocks_alone_are_set_and_restored(gpus: State) -> None:
    with gpus_set(["1"], None, 1200):
        assert settings(gpus) == [(700_000, 0), (700_000, 1200)]
    assert settings(gpus) == [(700_000, 0)] * 2


def test_nothing_is_changed_without_a_request(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Not even a library is loaded."""
    monkeypatch.setenv("WATTFRONT_HOME", str(tmp_path))
    monkeypatch.setenv("LD_LIBRARY_PATH", "/nowhere")
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with gpus_set(["0"], None, None), gpus_set([], 400.0, 1000):
        pass


def _keeper() -> int:
    """The only one that has this test's state in its environment."""
    mine = f"WATTFRONT_FAKE_NVML={os.environ['WATTFRONT_FAKE_NVML']}".encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                told = (entry / "environ").read_bytes().split(b"\0")
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if mine in told and b"serving.gpu.keeper" in command:
                return int(entry.name)
    raise AssertionError("there is no keeper")
