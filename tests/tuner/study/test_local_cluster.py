"""The Ray of a local study: a token of its own, and no trace for other clusters of the user."""

import os
import re
import stat
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest
import ray

from tuner.config.groups.cluster import ClusterConfig
from tuner.study.capacity import ClusterError
from tuner.study.local_cluster import isolated, variables
from tuner.study.ray_cluster import connected, started_local


def mode() -> int:
    core: Any = ray._raylet
    return int(core.get_authentication_mode())


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_variables_are_set_for_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WF_SET", "theirs")
    monkeypatch.delenv("WF_NEW", raising=False)
    with variables({"WF_SET": None, "WF_NEW": "1"}):
        assert "WF_SET" not in os.environ
        assert os.environ["WF_NEW"] == "1"
    assert os.environ["WF_SET"] == "theirs"
    assert "WF_NEW" not in os.environ


def test_a_token_of_its_own_in_a_private_folder(home: Path) -> None:
    before, tokens = dict(os.environ), []
    for _ in range(2):
        with isolated():
            assert mode() == 1
            path = Path(os.environ["RAY_AUTH_TOKEN_PATH"])
            tokens.append(path.read_text())
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
            assert os.environ["RAY_TMPDIR"] == str(path.parent)
        assert not path.parent.exists()
    assert len(set(tokens)) == 2
    assert all(len(token) == 64 for token in tokens)
    assert dict(os.environ) == before
    assert mode() == 0
    assert not (home / ".ray").exists()


def test_settings_of_the_user_do_not_open_it_and_stay(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "that of the user's cluster")
    with isolated():
        assert mode() == 1
        assert "RAY_AUTH_TOKEN" not in os.environ
    assert os.environ["RAY_AUTH_MODE"] == "disabled"
    assert os.environ["RAY_AUTH_TOKEN"] == "that of the user's cluster"


def test_a_long_temporary_folder_leaves_room_for_sockets(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = home / ("d" * 60)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    with isolated():
        assert os.environ["RAY_TMPDIR"].startswith("/tmp/wf-ray-")
    monkeypatch.setenv("RAY_TMPDIR", str(deep))
    with isolated():
        assert os.environ["RAY_TMPDIR"].startswith("/tmp/wf-ray-")


@pytest.mark.process
def test_other_children_live_on_and_no_other_ray_is_started(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook: Any = ray._private.auto_init_hook
    monkeypatch.setattr(hook, "enable_auto_connect", True)
    with subprocess.Popen(["sleep", "600"]) as child:
        with connected(ClusterConfig(cpus=1, gpus=0)):
            pass
        with pytest.raises(ray.exceptions.RaySystemError, match="not been started"):
            ray.put(1)
        assert child.poll() is None
        child.kill()


class SlowRay:
    """Ray as it is on a machine that is too busy for the first attempts."""

    def __init__(self, fails: int, error: Exception) -> None:
        self.fails, self.error, self.starts = fails, error, 0

    def init(self, **_: Any) -> None:
        self.starts += 1
        if self.starts <= self.fails:
            raise self.error


TIMED_OUT = Exception(
    "The current node timed out during startup. This could happen because …\nmore"
)


def test_ray_is_started_again_where_the_machine_was_too_busy() -> None:
    said, slow = list[str](), SlowRay(2, TIMED_OUT)
    assert started_local(slow, ClusterConfig(cpus=1, gpus=0), said.append) is None
    assert slow.starts == 3
    assert len(said) == 2
    for line in said:
        assert re.fullmatch(
            r"Ray on this machine did not start \(\d+ processes want \d+ cores\): The current node timed out "
            r"during startup\. .*; it is started again",
            line,
        )


@pytest.mark.parametrize(
    "error", [TIMED_OUT, RuntimeError("Failed to start GCS"), OSError(28, "full")]
)
def test_ray_that_does_not_start_is_one_line(error: Exception) -> None:
    slow = SlowRay(99, error)
    with pytest.raises(ClusterError, match=r"did not start \(.*cores\): .+") as caught:
        started_local(slow, ClusterConfig(cpus=1, gpus=0), lambda line: None)
    assert slow.starts == 3
    assert "\n" not in str(caught.value)


def test_a_bug_is_no_slow_start() -> None:
    with pytest.raises(KeyError):
        started_local(SlowRay(1, KeyError("x")), ClusterConfig(cpus=1, gpus=0), lambda line: None)


@pytest.mark.process
@pytest.mark.parametrize("nodes", [1, 2])
def test_other_clusters_of_the_user_stay_as_they_are(
    home: Path, monkeypatch: pytest.MonkeyPatch, nodes: int
) -> None:
    with tempfile.TemporaryDirectory(prefix="wf-") as folder:  # Ray puts sockets below it
        monkeypatch.setenv("TMPDIR", folder)
        recorded = Path(folder, "ray", "ray_current_cluster")
        recorded.parent.mkdir()
        recorded.write_text("10.0.0.1:6379")
        before = dict(os.environ)
        with connected(ClusterConfig(cpus=1, gpus=0, nodes=nodes)):
            pass
        assert recorded.read_text() == "10.0.0.1:6379"
        assert list(recorded.parent.iterdir()) == [recorded]
    assert dict(os.environ) == before
    assert mode() == 0
    assert not (home / ".ray").exists()
