"""Completion by the tab key: what a shell gets for the line up to the cursor."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tuner.cli.fixtures import Captured, bare_machine, study
from tuner.cli.configured import completion
from tuner.cli.configured.completion import candidates
from tuner.cli.parser import main, parser

__all__ = ["bare_machine", "study"]


@pytest.mark.parametrize(
    ("line", "some"),
    [
        ("wattfront si", ["simulate"]),
        ("wattfront plan slo=in", ["slo=interactive"]),
        ("wattfront tune -m engine=nim,tr", ["engine=nim,trtllm"]),
        ("wattfront tune a=1 +search.pri", ["+search.prior."]),
        ("wattfront tune search.prior.k", ["search.prior.kind="]),
        ("wattfront bench engine.vl", ["engine.vllm."]),
        (
            "wattfront bench engine.vllm.max_num",
            ["engine.vllm.max_num_seqs=", "engine.vllm.max_num_batched_tokens="],
        ),
        ("wattfront plan output", ["output_dir="]),
        ("wattfront plan --config-n", ["--config-name"]),
        ("wattfront list slo", ["slo"]),
        ("wattfront plan nosuch.x", []),
        ("wattfront plan engine.nosuch.x", []),
        ("wattfront engines ", []),
    ],
)
def test_what_can_stand_next(line: str, some: list[str]) -> None:
    assert candidates(line) == some


def test_the_fleet_is_no_group_of_a_study() -> None:
    assert "fleet=" not in candidates("wattfront plan ")
    assert {"engine=", "engine.", "experiment="} <= set(candidates("wattfront plan "))


def test_studies_and_options_of_ones_own(study: Path, bare_machine: Path) -> None:
    assert candidates("wattfront report la") == ["laptop-1"]
    own = bare_machine / "mine" / "search"
    own.mkdir(parents=True)
    (own / "ours.yaml").touch()
    assert candidates("wattfront plan -cd mine search=o") == ["search=ours"]


def test_commands_and_options_are_those_of_the_parser() -> None:
    (commands,) = [a.choices for a in parser()._actions if isinstance(a.choices, dict)]
    known = {*completion.STUDIES, *completion.OF_STUDIES, *completion.OTHERS}
    assert known == set(commands)
    for name, own in completion.STUDIES.items():
        options = {word for word in commands[name]._option_string_actions if word[:2] == "--"}
        assert options == {*completion.OPTIONS, *own}


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_a_script_is_written_where_the_shell_looks(
    shell: str, bare_machine: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(bare_machine / name))
    with pytest.raises(SystemExit) as end:
        main(["--install-completion", shell])
    assert end.value.code == 0
    where = Path(capsys.readouterr().out.splitlines()[0])
    assert where.is_relative_to(bare_machine)
    assert f"'{sys.executable}' -m tuner.cli.configured.completion" in where.read_text()
    monkeypatch.setenv("XDG_DATA_HOME", "/dev/null/x")
    monkeypatch.setenv("XDG_CONFIG_HOME", "/dev/null/x")
    with pytest.raises(SystemExit) as end:
        main(["--install-completion", shell])
    assert end.value.code == 4
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.process
@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_completes_behind_its_word_breaks(bare_machine: Path) -> None:
    (bare_machine / "script").write_text(completion.script("bash"))
    code = (
        "source ./script; COMP_LINE='wattfront plan slo=i'; COMP_POINT=${#COMP_LINE}; "
        "_wattfront; printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    root = str(Path(completion.__file__).parents[3])
    environ = {**os.environ, "PYTHONPATH": root}
    done = subprocess.run(
        ["bash", "--norc", "-c", code], env=environ, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["interactive"], done.stderr
