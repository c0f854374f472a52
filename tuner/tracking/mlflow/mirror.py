"""One study in MLflow, run by run, as far as its ledger goes."""

import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from tuner.config.study import StudyConfig
from tuner.report.plots.pareto import write_plots
from tuner.results.ledger import LEDGER, Entry, Finished, read, searched
from tuner.results.reader import Reader
from tuner.tracking.artifacts import own_file, own_files
from tuner.tracking.mlflow.client import TrackingError, alone, quiet_client, reported
from tuner.tracking.mlflow.writer import PARENT, TrialRuns, writer_of
from tuner.tracking.runs import (
    NO_VERDICT,
    confirmed_metrics,
    confirmed_tags,
    point_run,
    repeat_run,
    study_metrics,
    study_tags,
    trial_run,
    verdicts,
)
from tuner.tracking.view import SHARED_VIEW, view_key, view_link, view_path, view_state
from tuner.trial.result import Completed, OperatingPoint

BATCH_BYTES = 1 << 20  # of the ledger: what waits for a server is not held in memory
BATCH_TRIALS = 32  # of one transaction
Key = tuple[int, int]  # trial, level
Verdicts = Mapping[Key, Mapping[str, str]]


class Mirror:
    """One study in MLflow: a run with a child run per trial, each with a child run per operating point.

    A trial's run is closed once it is complete; one left open by a crash is replaced. Every method may be
    called again after it raised TrackingError, and goes on where it stopped. `link`: the page that shows it.
    """

    def __init__(
        self, study: StudyConfig, folder: Path, uri: str, experiment: str, artifacts: str | None
    ) -> None:
        """`artifacts`: the artifact location of a new experiment; None leaves it to the server."""
        self._study, self._folder, self._name = study, folder, folder.absolute().name
        self._reader = Reader(folder)
        self._waiting: deque[Entry] = deque()
        self._half: list[int] = []  # trials that were being written when MLflow failed
        self._judged = set[int]()
        self._leaders: list[Finished] = []  # those on the front, or best of a tier
        with reported(), alone(uri):
            self._client = quiet_client(uri)
            self._experiment = self._experiment_id(experiment, artifacts)
            self.link = view_link(uri, self._experiment, self._name)
            self._share_view()
            self._run_id = self._study_run_id()
            self._writer = writer_of(self._client, self._experiment)
        with reported():
            self._trials = self._mirrored_trials()
            self._marked = self._marked_points()

    def catch_up(self) -> int:
        """Writes the trials that MLflow lacks, and updates which points are on the front. Returns how many."""
        written = 0
        with reported():
            while self._half:
                self._trials |= self._mirrored_trials(self._half[-1])
                self._half.pop()
            while self._more():
                batch = list(islice(self._waiting, BATCH_TRIALS))
                written += self._take(batch)
                for _ in batch:
                    self._waiting.popleft()
                if not self._waiting:
                    self._mark()
        return written

    def conclude(self, status: str = "FINISHED") -> None:
        """Catches up, then closes the study's run with its metrics, plots, ledger and configuration."""
        self.catch_up()
        if status != "RUNNING":
            self._waiting.extend(self._reader.undecided())
            self.catch_up()
        with reported():
            lines = read(self._folder)
            entries = searched(lines)
            metrics = study_metrics(self._study, entries) | confirmed_metrics(self._study, lines)
            tags = _tags(confirmed_tags(self._study, lines))
            self._client.log_batch(self._run_id, metrics=_metrics(metrics), tags=tags)
            plots = write_plots(self._study, entries, self._folder)
            for path in (*plots, self._folder / LEDGER, self._folder / "study.yaml"):
                if own_file(self._folder, path):
                    self._client.log_artifact(self._run_id, str(path))
            if status != "RUNNING":
                self._client.set_terminated(self._run_id, status)

    def _more(self) -> bool:
        """Reads on in the ledger if nothing waits. Returns whether something does."""
        if not self._waiting:
            self._waiting.extend(self._reader.new(BATCH_BYTES))
        return bool(self._waiting)

    def _experiment_id(self, name: str, artifacts: str | None) -> str:
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        kind = {
            "mlflow.experimentKind": "custom_model_development"
        }  # the UI opens such an experiment at its runs
        try:
            return str(self._client.create_experiment(name, artifacts, kind))
        except MlflowException:  # another study may have made it meanwhile
            found = self._client.get_experiment_by_name(name)
            if found is None:
                raise
            return str(found.experiment_id)

    def _share_view(self) -> None:
        """Puts the view of the study where `link` has the UI look for it."""
        key, state = SHARED_VIEW + view_key(self._name), view_state(self._study, self._name)
        if self._client.get_experiment(self._experiment).tags.get(key) != state:
            self._client.set_experiment_tag(self._experiment, key, state)

    def _study_run_id(self) -> str:
        for run in self._search("study"):
            if run.info.status != "RUNNING":  # it goes on
                self._client.update_run(run.info.run_id, status="RUNNING")
            return str(run.info.run_id)
        page = view_path(self._experiment, self._name)
        tags = study_tags(self._study, self._name, page, self.link)
        run = self._client.create_run(self._experiment, tags=tags, run_name=self._name)
        return str(run.info.run_id)

    def _mirrored_trials(self, only: int | None = None) -> set[int]:
        """The trials that MLflow has; deletes what is there of those that are not complete."""
        whole, of = set[int](), "" if only is None else f" and tags.trial = '{only:03d}'"
        for run in (*self._search("trial", of), *self._search("repeat", of)):
            run_id = run.info.run_id
            if run.info.status != "RUNNING":
                whole.add(_number(run, "trial"))
                continue
            for point in self._search("point", f" and tags.`{PARENT}` = '{run_id}'"):
                self._client.delete_run(point.info.run_id)
            self._client.delete_run(run_id)
        return whole

    def _marked_points(self) -> dict[Key, tuple[str, Mapping[str, str]]]:
        """The points that MLflow calls leading. Others never lead again: each result is compared with all."""
        found: dict[Key, tuple[str, Mapping[str, str]]] = {}
        for mark in ("pareto = 'yes'", "tier_best != 'none'"):
            for run in self._search("point", f" and tags.{mark}"):
                known = {name: run.data.tags.get(name, "") for name in NO_VERDICT}
                found[_number(run, "trial"), _number(run, "level")] = (run.info.run_id, known)
        return found

    def _search(self, kind: str, more: str = "") -> Iterator[Any]:
        quote = '"' if "'" in self._name else "'"
        wanted = f"tags.kind = '{kind}' and tags.study = {quote}{self._name}{quote}{more}"
        token = None
        while True:
            page = self._client.search_runs([self._experiment], wanted, page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    def _take(self, batch: Sequence[Entry]) -> int:
        """Writes the results that MLflow lacks. Returns how many."""
        leaders, judged = self._leaders, set[int]()
        missing = list[Finished]()
        for entry in batch:
            if not isinstance(entry, Finished):
                continue
            if entry.repeat is None and entry.number not in self._judged | judged:
                tags = verdicts(self._study, [*leaders, entry])
                leading = {number for (number, _), each in tags.items() if each != NO_VERDICT}
                leaders = [each for each in (*leaders, entry) if each.number in leading]
            if entry.number not in self._trials:
                missing.append(entry)
            judged.add(entry.number)
        self._write(missing, verdicts(self._study, leaders))
        self._leaders = leaders
        self._judged |= judged
        return len(missing)

    def _write(self, missing: Sequence[Finished], tags: Verdicts) -> None:
        """Writes trials; `tags` of the points that lead once all of them are there."""
        if not missing:
            return
        self._half = [entry.number for entry in missing]
        found = self._writer.write(self._run_id, [self._runs(each, tags) for each in missing])
        self._half = []
        for entry, (_, *point_ids) in zip(missing, found, strict=True):
            self._trials.add(entry.number)
            for level, point_id in zip(_levels(entry), point_ids, strict=True):
                verdict = tags.get((entry.number, level.level), NO_VERDICT)
                if verdict != NO_VERDICT:
                    self._marked[entry.number, level.level] = (point_id, verdict)

    def _runs(self, entry: Finished, tags: Verdicts) -> TrialRuns:
        study, name = self._study, self._name
        data = (repeat_run if entry.repeat is not None else trial_run)(study, name, entry)
        keys = {level.level: (entry.number, level.level) for level in _levels(entry)}
        result = entry.result
        return TrialRuns(
            data,
            [
                point_run(study, name, entry, level, tags.get(keys[level.level], NO_VERDICT))
                for level in _levels(entry)
            ],
            list(own_files(self._folder, entry.folder)),
            {
                "config.json": result.config.model_dump_json(indent=2, exclude_none=True),
                "command.sh": result.command + "\n",
            },
            "FINISHED" if isinstance(result, Completed) else "FAILED",
        )

    def _mark(self) -> None:
        """Updates the points that were overtaken, and those whose mark is missing."""
        now = verdicts(self._study, self._leaders)
        for key in {*self._marked, *(key for key, each in now.items() if each != NO_VERDICT)}:
            verdict = now.get(key, NO_VERDICT)
            run_id, known = self._marked.get(key) or (self._point_id(key), NO_VERDICT)
            if known != verdict and run_id is not None:
                self._client.log_batch(run_id, tags=_tags(verdict))
                self._marked[key] = (run_id, verdict)
            if verdict == NO_VERDICT:
                self._marked.pop(key, None)

    def _point_id(self, key: Key) -> str | None:
        of = f" and tags.trial = '{key[0]:03d}' and tags.level = '{key[1]}'"
        return next((str(run.info.run_id) for run in self._search("point", of)), None)


def _levels(entry: Finished) -> Sequence[OperatingPoint]:
    """The levels of a trial that have runs of their own: those of repeats have none."""
    result = entry.result
    return result.points if isinstance(result, Completed) and entry.repeat is None else ()


def _number(run: Any, tag: str) -> int:
    """A tag of a run that this product wrote; others can write to the same server."""
    value = run.data.tags.get(tag, "")
    if not value.isdecimal():
        name = run.info.run_id
        raise TrackingError(f"run {name} has the tag {tag}={value!r}, not a number: delete the run")
    return int(value)


def _tags(tags: Mapping[str, str]) -> list[Any]:
    from mlflow.entities import RunTag

    return [RunTag(name, value) for name, value in tags.items()]


def _metrics(metrics: Mapping[str, float]) -> list[Any]:
    from mlflow.entities import Metric

    now_ms = time.time_ns() // 1_000_000
    return [Metric(name, value, now_ms, 0) for name, value in metrics.items()]
