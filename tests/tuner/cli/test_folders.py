"""Where studies are found and made."""

import shutil
from pathlib import Path

import pytest

from tests.tuner.cli.fixtures import Captured, bare_machine, one_line, study
from tests.tuner.samples.study import sample_config
from tuner.cli.exit_codes import Missing
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
