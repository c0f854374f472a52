"""From overrides to a validated study, and back from the file of a study that was run."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from loadgen.workload.workload import Content, Workload
from tuner.config.checks.stored_secrets import stored_secrets
from tuner.config.compose import ROOT, compose, to_yaml, typed_in
from tuner.config.errors import ConfigError, explain
from tuner.config.groups.search import SearchConfig
from tuner.config.groups.variants import with_variants
from tuner.config.own_files import from_yaml
from tuner.config.study import StudyConfig
from tuner.config.upgrade import RENAMED, upgraded
from tuner.config.validate import validate, without_unused

SAVED = "study.yaml"
AContent = TypeVar("AContent", bound=Content)


def load(overrides: Sequence[str], config_dir: Path | None = None, root: str = ROOT) -> StudyConfig:
    """Composes and validates. Raises ConfigError with one line per error.

    Paths of files are relative to the directory where the command is run.
    """
    study = _absolute(_validated(compose(overrides, config_dir, root)), Path.cwd())
    kinds = {name: engine.kind for name, engine in study.engine.items()}
    study = study.model_copy(update={"space": with_variants(study.space, kinds)})
    study = without_unused(study, partial(typed_in, overrides))
    if not typed_in(overrides, "search.trials"):
        study = _whole_list(study)
    validate(study)
    check_secrets(study)
    check_files(study)
    return study


def _whole_list(study: StudyConfig) -> StudyConfig:
    """With as many trials as the list has, where it is longer."""
    search = study.search
    listed = len(search.points) + (len(study.engine) if search.default_first else 0)
    if search.kind != "list" or listed <= search.trials:
        return study
    return study.model_copy(update={"search": search.model_copy(update={"trials": listed})})


def check_secrets(study: StudyConfig) -> None:
    """Raises ConfigError for secrets in it: it is stored, printed and mirrored."""
    if found := list(stored_secrets(study.model_dump(mode="json"))):
        raise ConfigError("\n".join(found))


def files_of(workload: Workload) -> dict[str, Path]:
    """The files that a workload reads, by the setting that names each."""
    files = {} if workload.tokenizer is None else {"workload.tokenizer": workload.tokenizer}
    files |= {f"workload.request.{name}": path for name, path in workload.request.files.items()}
    if workload.dataset is not None:
        files["workload.dataset.path"] = workload.dataset.path
    for index, part in enumerate(workload.mixture):
        if part.dataset is not None:
            files[f"workload.mixture.{index}.dataset.path"] = part.dataset.path
    return files


def check_files(study: StudyConfig) -> None:
    """Raises ConfigError where a file of the workload does not exist on this machine."""
    missing = [
        f"{setting}: there is no file {path} (paths are relative to where the command is run)"
        for setting, path in files_of(study.workload).items()
        if not path.is_file()
    ]
    if missing:
        raise ConfigError("\n".join(missing))


def _absolute(study: StudyConfig, base: Path) -> StudyConfig:
    workload = _absolute_content(study.workload, base)
    tokenizer = None if workload.tokenizer is None else base / workload.tokenizer.expanduser()
    mixture = tuple(_absolute_content(part, base) for part in workload.mixture)
    files = {name: base / path.expanduser() for name, path in workload.request.files.items()}
    request = workload.request.model_copy(update=files)
    changed = {"tokenizer": tokenizer, "mixture": mixture, "request": request}
    parts = {
        "workload": workload.model_copy(update=changed),
        "search": _absolute_search(study, base),
    }
    return study.model_copy(update=parts)


def _absolute_search(study: StudyConfig, base: Path) -> SearchConfig:
    search, older = study.search, study.search.prior.study
    if older is None:
        return search
    prior = search.prior.model_copy(update={"study": str(base / Path(older).expanduser())})
    return search.model_copy(update={"prior": prior})


def _absolute_content(content: AContent, base: Path) -> AContent:
    if content.dataset is None:
        return content
    path = base / content.dataset.path.expanduser()
    dataset = content.dataset.model_copy(update={"path": path})
    return content.model_copy(update={"dataset": dataset})


def load_saved(folder: Path) -> StudyConfig:
    """The configuration of a study that was run, by this version or an older one. Raises ConfigError."""
    data = upgraded(from_yaml(folder / SAVED), RENAMED)
    try:
        return _validated(data)
    except ConfigError as error:
        first, *others = str(error).splitlines()
        more = f" (and {len(others)} more)" if others else ""
        raise ConfigError(f"{folder / SAVED}: {first}{more}") from error


def save(study: StudyConfig, folder: Path) -> None:
    """Writes the file that `load_saved` reads."""
    unfinished = folder / f"{SAVED}.part"
    unfinished.touch(0o600)
    unfinished.write_text(to_yaml(study.model_dump(mode="json")), encoding="utf-8")
    unfinished.replace(folder / SAVED)  # a file that was cut could pass for a whole one


def _validated(data: dict[str, Any]) -> StudyConfig:
    try:
        return StudyConfig.model_validate(data)
    except ValidationError as error:
        raise explain(error, data, StudyConfig) from error
