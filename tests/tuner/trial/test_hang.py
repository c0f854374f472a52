"""An engine that stops amid a level while its health page says 200: the trial ends as a hang, and soon."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from loadgen import Progress
from serving.endpoint import Endpoint
from serving.engines import LlamaCpp, ready
from serving.launch import LaunchSpec, Running, launched
from serving.topology import Topology
from tests.serving.conftest import STUB, stub_environ
from tests.tuner.samples.points import CONFIG
from tuner.config.trial import TrialConfig
from tuner.trial.result import Failed
from tuner.trial.run import run_trial

pytestmark = [pytest.mark.process, pytest.mark.thorough]

LEVEL_S = 600  # of which nothing is waited for


class OnThisNode:
    """Engines as children of this process."""

    def __init__(self) -> None:
        self.running: Running | None = None

    def devices(self) -> tuple[str, ...]:
        return ()

    @contextmanager
    def engine(self, spec: LaunchSpec) -> Iterator[Endpoint]:
        with launched(spec) as self.running:
            yield self.running.endpoint

    def confirm(self, endpoint: Endpoint, canary: bool = False) -> None:
        assert self.running is not None
        (self.running.canary if canary else self.running.check)()


def trial(folder: Path, mode: str) -> TrialConfig:
    (folder / "pids").mkdir()
    (folder / "m.gguf").touch()
    env = stub_environ(folder / "pids", mode)
    engine = LlamaCpp(executable=str(STUB), env=env, stop_grace_s=0.2, hang_after_s=1.0)
    data = CONFIG.model_dump()
    load = {
        "input_tokens": 4, "output_tokens": 200, "warmup_s": 0.1, "level_s": LEVEL_S,
        "level_max_s": LEVEL_S, "request_timeout_s": LEVEL_S,
        "arrival": {"kind": "closed", "concurrency": [2]},
    }  # fmt: skip
    return TrialConfig.model_validate({
        **data,
        "engine": engine.model_dump(),
        "model": {**data["model"], "source": str(folder / "m.gguf")},
        "topology": Topology(cpus=1).model_dump(),
        "workload": {**data["workload"], **load},
    })  # fmt: skip


def ended(config: TrialConfig, on_progress: object = lambda _: None) -> Failed:
    began = time.monotonic()
    result = run_trial(config, OnThisNode(), on_progress).result  # type: ignore[arg-type]
    assert time.monotonic() - began < LEVEL_S / 2
    assert isinstance(result, Failed)
    return result


def test_streams_that_stop_amid_their_tokens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its health page says 200 all the time, and it has free slots for a request of one token."""
    monkeypatch.setattr(ready, "CANARY_S", 60.0)
    failed = ended(trial(tmp_path, "stall"))
    assert (failed.failure, failed.phase) == ("EngineHung", "under load")
    assert failed.evidence.startswith("closed 2: no output for ")
    assert failed.evidence.endswith("without the load it answers a request of one token")
    assert failed.remedy


def test_a_process_that_stands_still(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped by a signal once the first tokens have come."""
    monkeypatch.setattr(ready, "CANARY_S", 0.5)
    monkeypatch.setattr(ready, "DYING_S", 0.3)
    stopped: list[int] = []

    def stop(progress: Progress) -> None:
        if not stopped and progress.completed:
            stopped.extend(int(path.name) for path in (tmp_path / "pids").iterdir())
            for pid in stopped:
                os.kill(pid, signal.SIGSTOP)

    failed = ended(trial(tmp_path, "ok"), stop)
    assert (failed.failure, failed.phase) == ("EngineHung", "under load")
    assert "no answer to a request of one token within 0.5 s" in failed.evidence
