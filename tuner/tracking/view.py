"""The page of MLflow's UI with the operating points of a study: its filter, order and columns. Pure.

MLflow's first page of an experiment is about traces, of which there are none. The link opens the table of runs;
its filter, order and columns are in a tag of the experiment, as where a person shares a view.
"""

import hashlib
import json
from urllib.parse import urlsplit, urlunsplit

from tuner.config.study import StudyConfig

LOCAL = "http://127.0.0.1:5000"  # where `mlflow ui` listens, unless it is told otherwise
SHARED_VIEW = "mlflow.sharedViewState."  # prefix of the experiment's tag
COLUMNS_MAX = 24
TAGS = ("trial", "load", "tier_best", "pareto", "status")
PARAMS = ("engine", "knobs", "topology")


def view_key(name: str) -> str:
    """The key of a study's view, unique in an experiment: the name of its folder, hashed."""
    return hashlib.sha256(name.encode()).hexdigest()[:32]


def view_state(study: StudyConfig, name: str) -> str:
    """The view as the UI reads it: the study's points, the best first."""
    target = study.objective.target
    limits = [metric for tier in study.slo.tiers.values() for metric in tier.limits()]
    limits = [metric for metric in limits if metric != "error_rate"]
    axes = [axis.metric for axis in study.objective.axes]
    metrics = dict.fromkeys((target.metric, *axes, *limits))
    columns = [
        *(f"tags.`{tag}`" for tag in TAGS),
        *(f"params.`{param}`" for param in PARAMS),
        *(f"metrics.`{metric}`" for metric in metrics),
    ]
    quote = '"' if "'" in name else "'"
    state = {
        "searchFilter": f"tags.kind = 'point' and tags.study = {quote}{name}{quote}",
        "orderByKey": f"metrics.`{target.metric}`",
        "orderByAsc": target.direction == "min",
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": columns[:COLUMNS_MAX],
    }
    return json.dumps(state)


def view_path(experiment_id: str, name: str) -> str:
    """The page within the UI, from the `#` on."""
    return (
        f"#/experiments/{experiment_id}/runs?viewStateShareKey={view_key(name)}"
        "&workflowType=machine_learning"
    )


def view_link(uri: str, experiment_id: str, name: str) -> str:
    """The address of the page, without secrets: on the tracking server, or where `mlflow ui` listens."""
    return f"{ui_base(uri)}/{view_path(experiment_id, name)}"


def ui_base(uri: str) -> str:
    """The address of the UI. User, password and query of a tracking URI are left out."""
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https"):
        return LOCAL
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", ""))
