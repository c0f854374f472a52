"""Configuration files of users: whatever is wrong with one is a line with file and line number."""

import os
from pathlib import Path

import pytest

from tests.loadgen.workload.test_yaml_file import FAULTS
from tuner.cli.parser import main
from tuner.config.compose import conf_dir, multirun
from tuner.config.errors import ConfigError
from tuner.config.load import SAVED, load, load_saved, save

Captured = pytest.CaptureFixture[str]
# A private option may be empty, and OmegaConf knows no dates: such values are strings.
OURS = [each for each in FAULTS if each and b"2001-99-99" not in each]


@pytest.mark.parametrize("content", OURS, ids=range(len(OURS)))
def test_a_fault_in_a_private_file(content: bytes, tmp_path: Path, capsys: Captured) -> None:
    file = tmp_path / "search" / "mine.yaml"
    file.parent.mkdir()
    file.write_bytes(content)
    assert main(["plan", "--config-dir", str(tmp_path), "search=mine"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"wattfront: {file}{FAULTS[content][1:4]}")


@pytest.mark.parametrize("content", [*OURS, b""], ids=range(len(OURS) + 1))
def test_a_fault_in_a_saved_study(content: bytes, tmp_path: Path) -> None:
    (tmp_path / SAVED).write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_saved(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / SAVED}{FAULTS[content][1:4]}")
    assert len(str(caught.value).splitlines()) == 1


def test_a_saved_study_that_was_cut(tmp_path: Path) -> None:
    save(load([]), tmp_path)
    file = tmp_path / SAVED
    lines = file.read_text().splitlines(keepends=True)
    for cut in range(0, lines.index("tracking:\n"), 7):
        file.write_text("".join(lines[:cut]))
        with pytest.raises(ConfigError) as caught:
            load_saved(tmp_path)
        assert str(caught.value).startswith(str(file))
        assert len(str(caught.value).splitlines()) == 1


def test_what_is_no_file(tmp_path: Path) -> None:
    group = tmp_path / "search"
    group.mkdir()
    (group / "folder.yaml").mkdir()
    (group / "loop.yaml").symlink_to(group / "loop.yaml")
    (group / "itself.yaml").write_text("defaults: [itself]\n")
    (group / "header.yaml").write_text("# @package a b c\nkind: tpe\n")
    (group / "rows.yaml").write_text("- 1\n")
    os.mkfifo(group / "pipe.yaml")
    for name, why in {
        "folder": "there is no such search",
        "loop": "there is no such search",
        "pipe": "there is no such search",
        "itself": "contains itself",
        "header": f"{group}/header.yaml:1: Too many components",
        "rows": f"{group}/rows.yaml:1: expected keys",
    }.items():
        with pytest.raises(ConfigError) as caught:
            load([f"search={name}"], tmp_path)
        assert why in str(caught.value)


def test_a_folder_of_any_name(tmp_path: Path) -> None:
    own = tmp_path / "a,b=[c] 100%20 é?'#{${x}}"
    (own / "search").mkdir(parents=True)
    (own / "search" / "mine.yaml").write_text("kind: random\nprune_risk: 0.25\n")
    assert load(["search=mine"], own).search.prune_risk == 0.25
    assert multirun(["search=glob(m*)"], own) == [["search=mine"]]
    with pytest.raises(ConfigError, match="did you mean mine"):
        load(["search=mien"], own)


def test_an_option_of_ours_is_not_replaced_in_silence(tmp_path: Path) -> None:
    own = tmp_path / "search" / "list.yaml"
    own.parent.mkdir()
    own.write_bytes((conf_dir() / "search" / "list.yaml").read_bytes())
    assert load(["search=list"], tmp_path)
    own.write_text("kind: list\nseed: 3\n")
    with pytest.raises(ConfigError, match="there is an option search=list already"):
        load([], tmp_path)


@pytest.mark.parametrize("why", ["absent", "file", "a" * 300, "a\0b"])
def test_a_folder_that_is_none(why: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"^--config-dir "):
        load([], tmp_path / why)
