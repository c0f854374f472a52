"""Keys of older versions: their studies open, and their overrides get a message with the new key."""

from pathlib import Path

import pytest

from tuner.config.compose import to_yaml
from tuner.config.errors import ConfigError
from tuner.config.fields import field_at
from tuner.config.load import SAVED, load, load_saved, save
from tuner.config.own_files import from_yaml
from tuner.config.study import StudyConfig
from tuner.config.upgrade import RENAMED, upgraded

OLD_STUDIES = sorted((Path(__file__).parents[2] / "golden").glob("studies_*/**/study.yaml"))
OVERRIDES = {
    "objective.throughput=energy_j_per_output_tok": "objective.throughput: this key is now objective.metric",
    "search.give_up_risk=0.05": "search.give_up_risk: this key is now search.prune_risk",
    "+search.give_up_risk=0.05": "search.give_up_risk: this key is now search.prune_risk",
    "~search.confirm.contenders": (
        "search.confirm.contenders: this key is now search.confirm.candidates"
    ),
    "search.confirm={contenders: 1}": (
        "search.confirm.contenders: this key is now search.confirm.candidates"
    ),
}


def test_old_paths_move_to_their_new_ones() -> None:
    data = {"a": {"old": 1, "kept": 2}, "b": {"c": {"old": {"x": 3}}}, "lone": 4}
    renamed = {"a.old": "a.new", "b.c.old": "d.new", "lone": "e", "absent.key": "e.f"}
    assert upgraded(data, renamed) == {
        "a": {"kept": 2, "new": 1},
        "b": {"c": {}},
        "d": {"new": {"x": 3}},
        "e": 4,
    }
    assert data["a"] == {"old": 1, "kept": 2}, "a copy"


def test_a_new_key_is_not_overwritten() -> None:
    both = {"a": {"old": 1, "new": 2}}
    assert upgraded(both, {"a.old": "a.new"}) == both


def test_every_new_key_exists_and_no_old_one_does() -> None:
    for old, new in RENAMED.items():
        assert field_at(StudyConfig, new.split(".")) is not None
        assert field_at(StudyConfig, old.split(".")) is None


def test_a_study_with_the_old_keys_opens(tmp_path: Path) -> None:
    study = load(["experiment=b300_vllm", "objective=energy"])
    save(study, tmp_path)
    old = upgraded(from_yaml(tmp_path / SAVED), {new: old for old, new in RENAMED.items()})
    assert old["search"]["give_up_risk"] == 0.05
    assert old["search"]["confirm"]["contenders"] == 3
    assert old["objective"]["throughput"] == "energy_j_per_output_tok"
    (tmp_path / SAVED).write_text(to_yaml(old))
    assert load_saved(tmp_path) == study


@pytest.mark.parametrize("path", OLD_STUDIES, ids=lambda path: path.parent.name)
def test_complete_studies_of_older_versions_open(path: Path) -> None:
    saved, study = from_yaml(path), load_saved(path.parent)
    assert study.objective.metric == saved["objective"]["throughput"]
    assert study.search.prune_risk == saved["search"]["give_up_risk"]
    assert study.search.confirm.candidates == saved["search"]["confirm"]["contenders"]


@pytest.mark.parametrize("override", OVERRIDES)
def test_the_message_of_an_override_with_an_old_key_names_the_new_one(override: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load([override])
    assert str(caught.value) == OVERRIDES[override]


def test_the_message_of_a_private_yaml_with_an_old_key_names_the_new_one(tmp_path: Path) -> None:
    (tmp_path / "search").mkdir()
    (tmp_path / "search/mine.yaml").write_text("kind: random\ngive_up_risk: 0.1\n")
    with pytest.raises(ConfigError) as caught:
        load(["search=mine"], tmp_path)
    assert str(caught.value) == "search.give_up_risk: this key is now search.prune_risk"
