"""From overrides to a judged study, and back from the file of a study that was run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from loadgen.workload.workload import Content, Workload
from tuner.config.compose import compose, from_yaml, to_yaml
from tuner.config.errors import ConfigError, explain
from tuner.config.groups.search import SearchConfig
from tuner.config.study import StudyConfig
from tuner.config.validate import judge

SAVED = "study.yaml"
AContent = TypeVar("AContent", bound=Content)


def load(overrides: Sequence[str], config_dir: Path | None = None) -> StudyConfig:
    """Composes and judges. Raises ConfigError with a line for each thing that is wrong.

    Paths of files are taken from the directory where the command is run.
    """
    study = _rooted(_validated(compose(overrides, config_dir)), Path.cwd())
    judge(study)
    check_files(study)
    return study


def files_of(workload: Workload) -> dict[str, Path]:
    """What a load is made of that lies on a disk, by the setting that names it."""
    files = {} if workload.tokenizer is None else {"workload.tokenizer": workload.tokenizer}
    if workload.dataset is not None:
        files["workload.dataset.path"] = workload.dataset.path
    for index, part in enumerate(workload.mixture):
        if part.dataset is not None:
            files[f"workload.mixture.{index}.dataset.path"] = part.dataset.path
    return files


def check_files(study: StudyConfig) -> None:
    """Whether what the load is made of is here. Raises ConfigError."""
    lacking = [
        f"{setting}: there is no file {path} (paths are relative to where the command is run)"
        for setting, path in files_of(study.workload).items()
        if not path.is_file()
    ]
    if lacking:
        raise ConfigError("\n".join(lacking))


def _rooted(study: StudyConfig, base: Path) -> StudyConfig:
    workload = _content_rooted(study.workload, base)
    tokenizer = None if workload.tokenizer is None else base / workload.tokenizer.expanduser()
    mixture = tuple(_content_rooted(part, base) for part in workload.mixture)
    changed = {"tokenizer": tokenizer, "mixture": mixture}
    parts = {"workload": workload.model_copy(update=changed), "search": _search_rooted(study, base)}
    return study.model_copy(update=parts)


def _search_rooted(study: StudyConfig, base: Path) -> SearchConfig:
    search, older = study.search, study.search.prior.study
    if older is None:
        return search
    prior = search.prior.model_copy(update={"study": str(base / Path(older).expanduser())})
    return search.model_copy(update={"prior": prior})


def _content_rooted(content: AContent, base: Path) -> AContent:
    if content.dataset is None:
        return content
    path = base / content.dataset.path.expanduser()
    dataset = content.dataset.model_copy(update={"path": path})
    return content.model_copy(update={"dataset": dataset})


def load_saved(folder: Path) -> StudyConfig:
    return _validated(from_yaml(folder / SAVED))


def save(study: StudyConfig, folder: Path) -> None:
    (folder / SAVED).write_text(to_yaml(study.model_dump(mode="json")))


def _validated(data: dict[str, Any]) -> StudyConfig:
    try:
        return StudyConfig.model_validate(data)
    except ValidationError as error:
        raise explain(error, data, StudyConfig) from error
