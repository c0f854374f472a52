"""The link to a study's points in MLflow's UI."""

import json

import pytest

from tests.tuner.samples.study import sample_config
from tuner.tracking.view import LOCAL, ui_base, view_key, view_link, view_path, view_state


def test_the_view_filters_orders_and_shows_metrics() -> None:
    state = json.loads(view_state(sample_config(), "laptop-1"))
    assert state["searchFilter"] == "tags.kind = 'point' and tags.study = 'laptop-1'"
    assert state["orderByKey"] == "metrics.`throughput_output_tok_s_device`"
    assert state["orderByAsc"] is False
    columns = state["selectedColumns"]
    assert "metrics.`throughput_output_tok_s_device`" in columns
    assert "metrics.`interactivity_tok_s_user`" in columns
    assert {"params.`engine`", "params.`knobs`", "tags.`pareto`", "tags.`load`"} <= set(columns)


def test_a_quote_in_the_name_is_no_syntax() -> None:
    state = json.loads(view_state(sample_config(), "it's"))
    assert state["searchFilter"].endswith('tags.study = "it\'s"')


@pytest.mark.parametrize(
    ("uri", "base"),
    [
        ("http://mlflow.example:5000", "http://mlflow.example:5000"),
        ("https://user:SECRET@mlflow.example/sub/", "https://mlflow.example/sub"),
        ("https://mlflow.example?token=SECRET", "https://mlflow.example"),
        ("sqlite:////home/me/mlflow.db", LOCAL),
        ("postgresql://user:SECRET@db/mlflow", LOCAL),
    ],
)
def test_the_link_holds_no_secret(uri: str, base: str) -> None:
    assert ui_base(uri) == base
    link = view_link(uri, "7", "laptop 1 & more")
    assert link == f"{base}/{view_path('7', 'laptop 1 & more')}"
    assert "SECRET" not in link
    assert f"viewStateShareKey={view_key('laptop 1 & more')}&" in link
