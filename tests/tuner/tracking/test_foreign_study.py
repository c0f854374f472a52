"""`report --to-mlflow` of a study that somebody else made: nothing from outside its folder is uploaded."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.tuner.samples.study import sample_config, sample_study
from tests.tuner.tracking.test_observer import client, runs
from tuner.results.ledger import LEDGER, LedgerError, results
from tuner.tracking.artifacts import ForeignFileError, own_files
from tuner.tracking.mlflow import TrackingError, with_password
from tuner.tracking.observer import mirror

pytestmark = [pytest.mark.process, pytest.mark.filterwarnings("ignore::Warning")]
SECRET = "c4nary-of-another-file"


def uploaded(folder: Path) -> list[Path]:
    """Every file below the artifacts, and the database, that holds the secret."""
    below = [path for path in folder.parent.glob("mlartifacts/**/*") if path.is_file()]
    return [p for p in (*below, folder.parent / "mlflow.db") if SECRET.encode() in p.read_bytes()]


def _trial_is_a_link(study: Path, outside: Path) -> None:
    trial = results(study)[0].folder
    shutil.rmtree(trial)
    trial.symlink_to(outside)


def _trials_is_a_link(study: Path, outside: Path) -> None:
    moved = outside / "trials"
    shutil.move(study / "trials", moved)
    (study / "trials").symlink_to(moved)


def _file_is_a_link(study: Path, outside: Path) -> None:
    log = results(study)[0].folder / "engine.log"
    log.unlink(missing_ok=True)
    log.symlink_to(outside / "secret.txt")


def _study_yaml_is_a_link(study: Path, outside: Path) -> None:
    (outside / "study.yaml").write_text((study / "study.yaml").read_text() + f"# {SECRET}\n")
    (study / "study.yaml").unlink()
    (study / "study.yaml").symlink_to(outside / "study.yaml")


@pytest.mark.parametrize(
    "tampered", [_trial_is_a_link, _trials_is_a_link, _file_is_a_link, _study_yaml_is_a_link]
)
def test_no_link_is_followed_out_of_the_study(
    folder: Path, tmp_path: Path, tampered: Callable[[Path, Path], None]
) -> None:
    config, outside = sample_config(), tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.txt").write_text(SECRET)
    sample_study(folder, config, range(2))
    tampered(folder, outside)
    with pytest.raises(TrackingError, match="leads out of the study: it is not uploaded"):
        mirror(folder, config)
    assert uploaded(folder) == []


@pytest.mark.parametrize("fingerprint", ["../../../outside", "x/../../..", "", "0" * 15, "g" * 16])
def test_a_fingerprint_is_hexadecimal(folder: Path, tmp_path: Path, fingerprint: str) -> None:
    config, outside = sample_config(), tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.txt").write_text(SECRET)
    sample_study(folder, config, range(1))
    known, ledger = results(folder)[0].fingerprint, folder / LEDGER
    ledger.write_text(ledger.read_text().replace(known, fingerprint))
    with pytest.raises(LedgerError) as refusal:
        mirror(folder, config)
    assert len(str(refusal.value).splitlines()) == 1
    assert uploaded(folder) == []


def test_pictures_replace_a_link_and_do_not_follow_it(folder: Path, tmp_path: Path) -> None:
    config, victim = sample_config(), tmp_path / "victim"
    victim.write_text("untouched")
    sample_study(folder, config, range(2))
    (folder / "pareto.html").symlink_to(victim)
    (folder / "pareto.png").symlink_to(victim)
    mirror(folder, config)
    assert victim.read_text() == "untouched"
    assert not (folder / "pareto.html").is_symlink()


@pytest.mark.parametrize("value", [None, "", "seven", "-1", "1; drop"])
def test_runs_that_others_wrote_are_one_line(folder: Path, value: str | None) -> None:
    config = sample_config()
    sample_study(folder, config, range(1))
    mirror(folder, config)
    seen: Any = client(config, folder)
    (trial,) = runs(config, folder, "tags.kind = 'trial'")
    if value is None:
        seen.delete_tag(trial.info.run_id, "trial")
    else:
        seen.set_tag(trial.info.run_id, "trial", value)
    with pytest.raises(TrackingError, match=f"run {trial.info.run_id} has the tag trial=") as found:
        mirror(folder, config)
    assert len(str(found.value).splitlines()) == 1


def test_the_database_is_its_owner_s_alone(folder: Path) -> None:
    config = sample_config()
    (folder.parent / "mlflow.db").unlink()
    sample_study(folder, config, range(1))
    mirror(folder, config)
    for path in [folder.parent / "mlflow.db", folder.parent / "mlartifacts"]:
        assert path.stat().st_mode & 0o077 == 0, path


def test_a_trial_without_files_has_none(tmp_path: Path) -> None:
    study = tmp_path / "study"
    study.mkdir()
    assert list(own_files(study, study / "trials" / "000-0123456789abcdef")) == []
    outside = tmp_path / "outside"
    outside.mkdir()
    with pytest.raises(ForeignFileError):
        list(own_files(study, study / ".." / "outside"))


def test_the_password_of_a_database_comes_from_the_environment() -> None:
    environ = {"MLFLOW_TRACKING_USERNAME": "me", "MLFLOW_TRACKING_PASSWORD": "p@ss"}
    assert with_password("postgresql://db/x", environ) == "postgresql://me:p%40ss@db/x"
    assert with_password("mysql+pymysql://you@db/x", environ) == "mysql+pymysql://you:p%40ss@db/x"
    assert with_password("postgresql://db/x", {}) == "postgresql://db/x"
    assert with_password("sqlite:////tmp/a.db", environ) == "sqlite:////tmp/a.db"
    assert with_password("http://host:5000", environ) == "http://host:5000"
