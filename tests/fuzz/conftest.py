"""A bare machine, and the edges of the product: what would start Ray, an engine, a load or a download."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NoReturn

import pytest

import serving.twin.__main__ as twin_main
from loadgen import __main__ as loadgen_main
from loadgen.clock import ClockAnchor
from loadgen.results.report import LoadReport
from serving.install import environments, models
from tests.tuner.samples.study import sample_config, sample_study
from tuner.cli import endpoint, studies
from tuner.cli.machine import doctor
from tuner.config.load import save
from tuner.study.capacity import ClusterError

STUDY = "studies/laptop-1"


def _refused(*_: object, **__: object) -> NoReturn:
    raise OSError(101, "Network is unreachable")


@contextmanager
def _no_cluster(*_: object) -> Iterator[NoReturn]:
    raise ClusterError("no cluster here")
    yield


def _nothing(*_: object, **__: object) -> None:
    return None


def _no_load(args: Any, target: Any, workload: Any, console: Any) -> tuple[str, LoadReport]:
    return "model", LoadReport((), ClockAnchor.take())


@pytest.fixture(scope="module")
def machine_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The working directory: a study that was run, nothing installed, and nothing that can be reached."""
    folder = tmp_path_factory.mktemp("machine")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in ("OPENAI_API_KEY", "FORCE_COLOR"):
            patch.delenv(name, raising=False)
        patch.setenv("WATTFRONT_HOME", str(folder / "home"))
        patch.setenv("COLUMNS", "100")
        patch.setattr(studies, "connected", _no_cluster)
        patch.setattr(studies, "check_endpoint", _nothing)
        patch.setattr(endpoint, "served_models", _refused)
        patch.setattr(studies, "Tracker", lambda *_: nullcontext())
        patch.setattr(studies, "run_simulated", _nothing)
        patch.setattr(studies, "mirror", _nothing)
        patch.setattr(doctor, "checks", lambda *_: [])
        patch.setattr(environments, "install", _refused)
        patch.setattr(models, "fetch", _refused)
        patch.setattr(loadgen_main, "load", _no_load)
        patch.setattr(twin_main, "serve", lambda *_: 0)
        study = folder / STUDY
        os.makedirs(study)  # noqa: PTH103
        config = sample_config().model_copy(update={"name": "laptop"})
        save(config, study)
        sample_study(study, config)
        yield folder
