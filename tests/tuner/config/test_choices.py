"""What a study must choose, what it takes where nothing is chosen, and what is refused."""

from pathlib import Path

import pytest

from tests.tuner.samples.loaded import load
from tuner.config.compose import compose_yaml, conf_dir, info, takes_default, typed_in
from tuner.config.compose.choices import REQUIRED
from tuner.config.compose.loader import OF_HYDRA
from tuner.config.errors import ConfigError
from tuner.config.own_files import from_yaml


def refusal(*words: str, folder: Path | None = None, root: str = "config") -> str:
    with pytest.raises(ConfigError) as caught:
        compose_yaml(words, folder, root)
    return str(caught.value)


def test_the_root_has_no_default_for_what_is_measured() -> None:
    chosen = {
        group: option
        for each in from_yaml(conf_dir() / "config.yaml")["defaults"]
        if isinstance(each, dict)
        for group, option in each.items()
    }
    assert {group for group, option in chosen.items() if option == "???"} == set(REQUIRED)
    assert chosen["experiment"] is None


@pytest.mark.parametrize(
    ("words", "default"),
    [
        ([], True),
        (["search.trials=3", "engine.llamacpp.parallel=2"], True),
        (["search=random", "tracking=none"], True),
        (["experiment=b300"], False),
        (["experiment=null"], False),
        (["~experiment"], False),
        (["engine=vllm"], False),
        (["+slo=interactive"], False),
    ],
)
def test_which_words_take_the_default(words: list[str], default: bool) -> None:
    assert takes_default(words) == default
    assert not takes_default(words, "mine")


def test_what_is_not_chosen_is_named_with_examples() -> None:
    line = refusal("engine=vllm")
    assert line.startswith("not chosen: model=deepseek_r1|")
    assert "|…, hardware=b200|b200_twin|…, topology=cpu|cpu2|…, workload=" in line
    assert "engine=" not in line
    assert line.endswith("(`wattfront list GROUP`); or take a whole one: experiment=…")
    assert len(line.splitlines()) == 1
    assert refusal("experiment=null").startswith("not chosen: engine=")


def test_a_study_without_an_experiment_is_chosen_whole() -> None:
    words = ["engine=llamacpp", "model=smollm2_135m", "hardware=laptop", "topology=cpu2"]
    study = load([*words, "workload=smoke", "slo=laptop"])
    assert (study.name, study.search.kind, study.space.parameters) == ("study", "tpe", {})


def test_an_experiment_of_ones_own_chooses_or_names_another(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    head, own = "# @package _global_\ndefaults:\n", "  - override /workload: smoke\nname: mine\n"
    (tmp_path / "experiment" / "part.yaml").write_text(head + own)
    (tmp_path / "experiment" / "whole.yaml").write_text(f"{head}  - laptop\n{own}")
    line = refusal("experiment=part", folder=tmp_path)
    assert line.startswith("experiment=part does not choose: engine=external|llamacpp|…, model=")
    assert "workload=" not in line
    assert line.endswith("or take those of another in its defaults (`- laptop`)")
    assert "name: mine" in compose_yaml(["experiment=whole"], tmp_path)


def test_a_root_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(compose_yaml(["search.seed=9"]))
    assert "seed: 9" in compose_yaml([], tmp_path, "mine")
    assert "seed: 8" in compose_yaml(["search.seed=8"], tmp_path, "mine")
    line = refusal(folder=tmp_path, root="mien")
    assert line.startswith("--config-name mien: there is no such configuration; did you mean mine?")


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("hydra.run.dir=x", "use output_dir=… and name=…"),
        ("hydra.sweep.dir=x", "use output_dir=… and name=…"),
        ("hydra.job.name=x", "use name=…"),
        ("hydra.job.chdir=true", "the directory never changes"),
        ("+hydra.job.env_set.A=b", "use engine.NAME.env"),
        ("hydra/launcher=joblib", "Ray Tune schedules trials"),
        ("hydra.launcher.n_jobs=2", "Ray Tune schedules trials"),
        ("hydra/sweeper=optuna", "Ray Tune schedules trials"),
        ("hydra.searchpath=[file://x]", "use --config-dir DIR"),
        ("hydra.mode=MULTIRUN", "use --multirun"),
        ("~hydra.verbose", "it has no effect here: leave it out"),
    ],
)
def test_settings_of_hydra_itself_are_refused(word: str, said: str) -> None:
    line = refusal(word)
    assert line.startswith(f"{word.lstrip('+~').partition('=')[0]}: Hydra only composes")
    assert said in line
    assert len(line.splitlines()) == 1
    assert set(OF_HYDRA) <= {f"hydra.{key.partition('.')[2]}" for key in OF_HYDRA}


def test_settings_of_another_kind_are_dropped_unless_typed() -> None:
    study = load(["experiment=b300_vllm", "search=random"])
    assert (study.search.kind, study.search.prior.kind) == ("random", "none")
    for word in ("search.prior.kind=twin", "search={kind: random, goal: tiers}"):
        with pytest.raises(ConfigError, match=r"search\.(prior|goal): random .*, or leave search"):
            load(["experiment=b300_vllm", "search=random", word])
    assert load(["experiment=b300_vllm", "search=random", "search.prior.kind=none"])
    with pytest.raises(ConfigError, match=r"cluster\.address: local starts Ray on this machine"):
        load(["cluster.address=head:6379"])
    with pytest.raises(ConfigError, match=r"tracking\.uri: none is the ledger only"):
        load(["tracking=none", "tracking.uri=http://host:5000"])
    with pytest.raises(ConfigError, match=r"search\.startup_trials: random has no trials before"):
        load(["search=random", "search.startup_trials=9"])


def test_typed_is_what_the_words_set() -> None:
    words = ["+a.b.c=1", "search={kind: random, prior: {kind: twin}}", "~d"]
    assert all(typed_in(words, path) for path in ("a", "a.b", "a.b.c", "search", "d"))
    assert typed_in(words, "search.prior.kind")
    assert not any(typed_in(words, path) for path in ("a.b.c.d", "search.stop", "sear", "a.bc"))


def test_info_is_how_a_study_is_composed(tmp_path: Path) -> None:
    text = info("all", ["experiment=smoke"], tmp_path)
    assert "# defaults-tree\nconfig\n  engine: llamacpp\n" in text
    assert "\n  experiment: smoke\n" in text
    assert "\nworkload/smoke → workload\n" in text
    assert f"own: checked://{tmp_path}" in text
    assert "hydra/" not in text
    assert "model: ???" in info("defaults-tree", ["engine=vllm"])
