"""From overrides to a judged study, and back from the file of a study that was run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tuner.complaint import ConfigError, explain
from tuner.compose import compose, compose_yaml, from_yaml, multirun, to_yaml
from tuner.judge import judge
from tuner.study_config import StudyConfig, default_points, fixed_values, single, trial_config

__all__ = [
    "ConfigError",
    "StudyConfig",
    "compose_yaml",
    "default_points",
    "fixed_values",
    "load",
    "load_saved",
    "multirun",
    "save",
    "single",
    "trial_config",
]

SAVED = "study.yaml"


def load(overrides: Sequence[str], config_dir: Path | None = None) -> StudyConfig:
    """Composes and judges. Raises ConfigError with a line for each thing that is wrong."""
    study = _validated(compose(overrides, config_dir))
    judge(study)
    return study


def load_saved(folder: Path) -> StudyConfig:
    return _validated(from_yaml(folder / SAVED))


def save(study: StudyConfig, folder: Path) -> None:
    (folder / SAVED).write_text(to_yaml(study.model_dump(mode="json")))


def _validated(data: dict[str, Any]) -> StudyConfig:
    try:
        return StudyConfig.model_validate(data)
    except ValidationError as error:
        raise explain(error, data, StudyConfig) from error
