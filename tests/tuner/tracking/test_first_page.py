"""What a person sees first in MLflow: the link to a study's points, its columns, the values of the default."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy.event import listen

from tests.tuner.samples.study import POINTS, sample_config, sample_study
from tests.tuner.tracking.test_observer import client, observe, runs
from tuner.config.resolve import trial_config
from tuner.results.ledger import results
from tuner.tracking.observer import _opened, mirror, ui_command
from tuner.tracking.runs import params
from tuner.tracking.view import SHARED_VIEW, view_key, view_link, view_path

# mlflow's own dependencies, not ours
pytestmark = [pytest.mark.process, pytest.mark.filterwarnings("ignore::Warning")]


def test_the_default_s_values_can_be_compared(folder: Path) -> None:
    config = sample_config()
    observe(config, folder, range(2))
    (default,) = runs(config, folder, "tags.kind = 'trial' and tags.trial = '000'")
    knobs = [path.rsplit(".", 1)[-1] for path in config.space.parameters if ".llamacpp." in path]
    assert knobs
    assert {name: default.data.params[name] for name in knobs} == dict.fromkeys(knobs, "default")
    path = next(path for path in config.space.parameters if ".llamacpp." in path)
    knob = path.rsplit(".", 1)[-1]
    changed = config.engine["llamacpp"].model_copy(update={knob: 7})
    again = config.model_copy(update={"engine": {**config.engine, "llamacpp": changed}})
    entry = results(folder)[0]
    set_so = replace(entry, result=replace(entry.result, config=trial_config(again, POINTS[0])))
    assert params(config, set_so)[knob] == "7"


def test_the_link_opens_the_points_of_the_study(folder: Path) -> None:
    config = sample_config()
    said = observe(config, folder, range(2))
    experiment = client(config, folder).get_experiment_by_name("wattfront")
    link = view_link("", experiment.experiment_id, folder.name)
    assert link in said
    assert link in ui_command(config, folder)
    assert mirror(folder, config) == link
    (study,) = runs(config, folder, "tags.kind = 'study'")
    assert study.data.tags["view"] == link
    assert (
        f"({view_path(experiment.experiment_id, folder.name)})"
        in study.data.tags["mlflow.note.content"]
    )
    state = json.loads(experiment.tags[SHARED_VIEW + view_key(folder.name)])
    shown = runs(config, folder, state["searchFilter"])
    assert len(shown) == 8
    known = {f"metrics.`{name}`" for run in shown for name in run.data.metrics}
    wanted = {column for column in state["selectedColumns"] if column.startswith("metrics.")}
    assert wanted <= known
    assert state["orderByKey"] in wanted


def test_many_waiting_trials_are_one_transaction(folder: Path) -> None:
    config, commits = sample_config(), list[int]()
    sample_study(folder, config)
    opened = _opened(config, folder)
    store = opened._client._tracking_client.store
    listen(store.engine, "commit", lambda connection: commits.append(1))
    assert opened.catch_up() == 10
    assert len(commits) == 1
