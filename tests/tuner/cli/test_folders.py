"""Where studies are found and made."""

import os
import shutil
from pathlib import Path

import pytest

from tests.tuner.cli.fixtures import Captured, bare_machine, one_line, study
from tests.tuner.samples.study import sample_config
from tuner.cli.exit_codes import ExitCode, Missing
from tuner.cli.folders import new_folder
from tuner.cli.parser import main

__all__ = ["bare_machine", "study"]


@pytest.mark.parametrize("command", ["report", "resume"])
def test_an_unknown_study_names_those_there_are(
    command: str, study: Path, capsys: Captured
) -> None:
    assert main([command, "nosuch"]) == 4
    assert "under ./studies there are: laptop-1" in one_line(capsys)
    shutil.rmtree(study)
    assert main([command, "nosuch"]) == 4
    assert "under ./studies there are none" in one_line(capsys)


def test_a_folder_that_cannot_be_made_is_one_line(bare_machine: Path) -> None:
    (bare_machine / "file").touch()
    config = sample_config().model_copy(update={"output_dir": str(bare_machine / "file")})
    with pytest.raises(Missing, match="output_dir: cannot create"):
        new_folder(config)


def test_two_studies_of_one_second_have_folders_of_their_own() -> None:
    folders = {new_folder(sample_config()) for _ in range(3)}
    assert len(folders) == 3


def test_a_study_is_its_owner_s_alone_and_its_parents_are_not(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        folder = new_folder(
            sample_config().model_copy(update={"output_dir": str(tmp_path / "all")})
        )
    finally:
        os.umask(before)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "study.yaml").stat().st_mode & 0o777 == 0o600
    assert folder.parent.stat().st_mode & 0o777 == 0o755


def test_what_is_missing_on_this_machine_is_known_before_the_study(
    bare_machine: Path, capsys: Captured
) -> None:
    (bare_machine / f"wattfront-{os.getuid()}").touch()
    passed = "+engine.vllm.env_passthrough=[NOBODY_SET_THIS]"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tempfile.tempdir", str(bare_machine))
        patch.setattr("tuner.cli.preflight.check_open_files", lambda: None)
        code = main(["tune", "experiment=b300_vllm", "hardware=b300_twin", passed, "cluster=local",
                     "cluster.gpus=8", "tracking=none"])  # fmt: skip
    said = capsys.readouterr().err
    assert code == ExitCode.MISSING
    assert "is not a folder, so its locks are not safe" in said
    assert "engine.vllm.env_passthrough: NOBODY_SET_THIS is not set where the engine starts" in said
    assert not (bare_machine / "studies").exists()
