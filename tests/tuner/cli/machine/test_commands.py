"""`wattfront engines` and `wattfront models`, of versions and of a hub."""

import shlex
from pathlib import Path

import pytest

from serving.install import environments
from serving.install.hub.cache import ModelCache
from tests.serving.install.hub.fake_hub import COMMIT, FakeHub
from tests.serving.install.hub.fixtures import MODEL, fake
from tests.serving.install.packages.fixtures import wheels
from tests.tuner.cli.fixtures import Captured, one_line
from tuner.cli.parser import main

__all__ = ["fake", "wheels"]


@pytest.mark.process
@pytest.mark.thorough
def test_an_environment_from_download_to_removal(
    wheels: Path, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    local = f"--pip-args=--no-index --find-links {wheels}"
    to = tmp_path / "to"
    assert main(["engines", "download", "tiny==1.1", "--to", str(to), local]) == 0
    command = capsys.readouterr().out.splitlines()[-1].partition("there: wattfront ")[2]
    assert main(shlex.split(command)) == 0
    where = environments.folder("tiny", "1.1")
    assert capsys.readouterr().out.splitlines()[-1] == f"tiny 1.1: {where}"
    assert main(["engines", "list"]) == 0
    text = capsys.readouterr().out
    [record] = [each.record for each in environments.every()]
    assert f"{record.lock_sha256[:12]}  never" in text
    assert str(where) in text.replace("\n", "")
    assert main(["engines", "install", "tiny==1.1", "--lock", str(to / "tiny-1.1.lock.txt")]) == 0
    assert main(["engines", "remove", "tiny==1.1"]) == 0
    assert environments.every() == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["engines", "install", "vllm=0.32"], "write NAME or NAME==VERSION, for example vllm==0."),
        (["engines", "download", "vllm"], "into which folder? --to FOLDER"),
        (["models", "fetch", "smollm2-135m-instruct@main"], "only a model of a hub has revisions"),
        (["models", "fetch", "a/b@x", "--revision", "y"], "a revision twice"),
        (["models", "verify", "smollm2-135m-instruct"], "of a model of a hub, ORG/NAME"),
    ],
)
def test_what_is_written_wrongly(words: list[str], said: str, capsys: Captured) -> None:
    assert main(words) == 2
    assert said in one_line(capsys)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["engines", "remove", "vllm==0.1"], "no environment vllm==0.1 to remove"),
        (["engines", "install", "vllm", "--wheelhouse", "/none"], "there is no folder /none"),
        (["engines", "install", "vllm", "--lock", "/none"], "lock /none: No such file"),
        (["models", "verify", "org/none"], "was not fetched by Wattfront"),
    ],
)
def test_what_is_not_here(
    words: list[str], said: str, fake: FakeHub, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATTFRONT_HOME", "/nowhere")
    assert main(words) == 4
    assert said in one_line(capsys)


def test_a_model_of_a_hub(fake: FakeHub, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["models", "fetch", f"{MODEL}@main"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"{MODEL} at {COMMIT}: 2.0 MB, ")
    assert main(["models", "list"]) == 0
    assert f"{MODEL}  {COMMIT[:12]}  2.0 MB  checked" in capsys.readouterr().out
    assert main(["models", "verify", MODEL]) == 0
    (ModelCache(MODEL).snapshot(COMMIT) / "config.json").resolve().write_text("x")
    capsys.readouterr()
    assert main(["models", "verify", MODEL]) == 4
    assert "config.json: has 1 bytes, not 23" in capsys.readouterr().err
    assert main(["models", "fetch", MODEL]) == 0
    assert main(["models", "verify", MODEL]) == 0
    assert main(["models", "fetch", MODEL, "--revision", "nosuch"]) == 4
