"""--cfg, --resolve, --info, --multirun and --config-name, as users type them."""

from pathlib import Path

import pytest
import yaml

from tests.tuner.cli.fixtures import Captured, bare_machine, one_line
from tuner.cli.parser import main

__all__ = ["bare_machine"]
NOTE = "experiment=laptop, as none is chosen (`wattfront list experiment`)\n"


def test_a_bare_command_says_what_it_takes(capsys: Captured) -> None:
    assert main(["plan"]) == 0
    said = capsys.readouterr()
    assert said.err == NOTE
    assert len(NOTE) <= 80
    assert main(["plan", "experiment=laptop"]) == 0
    assert capsys.readouterr() == (said.out, "")


@pytest.mark.parametrize("command", ["tune", "bench", "simulate", "plan"])
def test_what_is_not_chosen_is_one_line(command: str, capsys: Captured) -> None:
    assert main([command, "engine=vllm"]) == 2
    assert "not chosen: model=" in one_line(capsys)
    assert main([command, "hydra.run.dir=x"]) == 2
    assert "hydra.run.dir: Hydra only composes" in one_line(capsys)


def test_resolve_shows_values(bare_machine: Path, capsys: Captured) -> None:
    words = ["plan", "--cfg", "job", "search.seed=${search.trials}"]
    assert main(words) == 0
    assert "seed: ${search.trials}" in capsys.readouterr().out
    assert main([*words, "--resolve"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["search"]["seed"] == 8
    assert main(["plan", "--resolve"]) == 2
    assert one_line(capsys) == "wattfront: --resolve: it is an option of --cfg job\n"


def test_info_starts_nothing(bare_machine: Path, capsys: Captured) -> None:
    assert main(["tune", "--info", "defaults-tree", "experiment=smoke"]) == 0
    assert capsys.readouterr().out.startswith("config\n  engine: llamacpp\n")
    assert not list(bare_machine.iterdir())


@pytest.mark.parametrize("command", ["bench", "simulate", "plan"])
def test_multirun_is_for_every_command(
    command: str, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = []
    place = {"bench": "run_study", "simulate": "_simulate_new", "plan": "_show_plan"}[command]
    monkeypatch.setattr(f"tuner.cli.studies.{place}", lambda *words: ran.append(words[-1]) or 0)
    assert main([command, "-m", "experiment=smoke", "search.seed=3,4"]) == 0
    assert [study.search.seed for study in ran] == [3, 4]
    heads = capsys.readouterr().out.splitlines()
    assert heads == [f"# experiment=smoke search.seed={seed}" for seed in (3, 4)]


def test_a_root_of_ones_own(bare_machine: Path, capsys: Captured) -> None:
    (bare_machine / "mine").mkdir()
    own = "defaults:\n  - config\n  - override engine: llamacpp\n  - _self_\nname: ours\n"
    (bare_machine / "mine" / "ours.yaml").write_text(own)
    words = ["plan", "-cd", "mine", "-cn", "ours"]
    assert main([*words, "experiment=smoke", "-c", "job"]) == 0
    assert "name: ours" in capsys.readouterr().out
    assert main(words) == 2
    assert "not chosen: model=" in one_line(capsys)
    assert main(["plan", "-cn", "ours"]) == 2
    assert "--config-name ours: there is no such configuration" in one_line(capsys)
