"""The folder of locks: a name that others know must be ours alone, or is refused in one line."""

import os
import stat
from pathlib import Path

import pytest

from serving.errors import LaunchError
from serving.process.locks import locked, private_folder


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path / f"wattfront-{os.getuid()}"


def test_it_is_ours_alone_whatever_the_umask(own_folder: Path) -> None:
    before = os.umask(0)
    try:
        assert private_folder() == own_folder
        lock = locked("a")
    finally:
        os.umask(before)
    assert lock is not None
    assert stat.S_IMODE(own_folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((own_folder / "a").stat().st_mode) == 0o600
    os.close(lock)


def refused(why: str) -> None:
    with pytest.raises(LaunchError) as refusal:
        locked("a")
    line = str(refusal.value)
    assert "\n" not in line
    assert why in line
    assert "set TMPDIR to a folder of your own" in line


def test_a_folder_that_is_open_to_others_is_refused(own_folder: Path) -> None:
    own_folder.mkdir()
    own_folder.chmod(0o777)
    refused("is open to others (mode 777)")


def test_a_link_is_refused(own_folder: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(0o700)
    own_folder.symlink_to(elsewhere)
    refused("is not a folder")
    assert list(elsewhere.iterdir()) == []


def test_a_file_and_a_dangling_link_are_refused(own_folder: Path, tmp_path: Path) -> None:
    own_folder.touch()
    refused("is not a folder")
    own_folder.unlink()
    own_folder.symlink_to(tmp_path / "nowhere")
    refused("is not a folder")


def test_another_user_can_not_have_made_it(
    own_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_folder.mkdir(0o700)
    owner, made = own_folder.stat().st_uid, own_folder
    monkeypatch.setattr("os.getuid", lambda: owner + 1)
    made.rename(made.with_name(f"wattfront-{owner + 1}"))
    refused(f"belongs to user {owner}")


def test_a_lock_that_is_a_link_is_not_followed(own_folder: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    private_folder()
    (own_folder / "a").symlink_to(victim)
    with pytest.raises(OSError, match="symbolic"):
        locked("a")
    assert not victim.exists()
