"""Ray Tune runs the trials, in slots: actors that hold devices and are reused by the next trial."""

import logging
import os
import pickle
import tempfile
import time
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayError, RayTaskError
from ray.tune.execution import class_cache

from serving.process.environ import names_secret
from tuner.search import Source
from tuner.study.capacity import Capacity, ClusterError
from tuner.study.joining.nodes import NODE
from tuner.study.ray_cluster import SLOT_GROUPS
from tuner.study.slots.board import Board
from tuner.study.slots.deadline import abortable
from tuner.study.slots.searcher import WAIT_S, Look, StudySearcher, Unsaved
from tuner.study.slots.slot import MEASURED, Slot
from tuner.study.slots.watch import Screen, Watch
from tuner.trial.result import with_wall

DEAD_AFTER_S = 120.0
MIN_PLACE_S = 120.0  # for a slot to start on devices that are free
PENDING_CALLS = 16  # reports of one slot that the board may be behind; more are dropped


class SlotRequest(tune.PlacementGroupFactory):
    """What a slot reserves. Its placement groups are known as ours."""

    def to_placement_group(self) -> Any:
        """Reserves it, once devices are free."""
        group: Any = super().to_placement_group()  # type: ignore[no-untyped-call]
        SLOT_GROUPS.add(group.id.hex())
        return group


class Results(Unsaved, tune.Callback):
    """Hands results to the study before Tune asks for the next trial."""

    def __init__(self, source: Source, asked_at: dict[int, float]) -> None:
        self._source, self._asked_at = source, asked_at
        self.bug: BaseException | None = None

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any
    ) -> None:
        """A trial finished. Its result is taken out of what Tune keeps, and saves every few seconds."""
        number, measured = trial.config["number"], result.pop(MEASURED).measured
        wall_s = time.monotonic() - self._asked_at.pop(number)
        self._source.finished(number, with_wall(measured, wall_s))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """A slot or its node died, which is a result; any other error is a bug, and closes the study."""
        number, error = trial.config["number"], _error_of(trial)
        wall_s = time.monotonic() - self._asked_at.pop(number)
        if isinstance(error, RayError) and not isinstance(error, RayTaskError):
            why = "the Ray worker that ran the trial died"
            self._source.died(number, why, wall_s, trial.config["host"])
        else:
            self.bug = self.bug or error
            self._source.close()


def run_trials(
    source: Source,
    capacity: Capacity,
    screen: Screen,
    dead_after_s: float = DEAD_AFTER_S,
    *,
    look: Look | None = None,
    wait_s: float = WAIT_S,
) -> None:
    """Runs the trials that `source` proposes, as many at once as devices allow, until it proposes no more.

    `look`, `wait_s`: as for `StudySearcher`.

    An error that is not a trial's result is a bug: it is raised once the other running trials have finished.
    Raises ClusterError if the cluster does not answer for `dead_after_s`, or others hold it for `wait_s`.
    """
    remote: Any = ray.remote  # typed for decorators alone
    actor = remote(num_cpus=0, max_restarts=-1, max_pending_calls=PENDING_CALLS)(Board)
    board = actor.remote()
    searcher = StudySearcher(source, capacity, look, wait_s)
    results = Results(source, searcher.asked_at)
    trainable = tune.with_resources(tune.with_parameters(Slot, board=board), _bundle)
    with (
        tempfile.TemporaryDirectory(prefix="wattfront-tune-") as folder,
        abortable() as abort,
        Watch(
            board,
            searcher.asked_at,
            screen,
            dead_after_s,
            abort,
            max(wait_s, MIN_PLACE_S),
            lambda: searcher.note,
        ),
    ):
        tuner = tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                num_samples=-1,  # the searcher says when it has finished
                reuse_actors=True,
                trial_name_creator=lambda trial: f"trial-{trial.config['number']:03d}",
                # A trial that is tried again has the same number.
                trial_dirname_creator=lambda trial: f"trial-{trial.trial_id}",
            ),
            run_config=_kept_in(folder, results),
        )
        _configure_tune()
        tuner.fit()
    if results.bug is not None:
        raise results.bug
    if searcher.gave_up:
        raise ClusterError(searcher.gave_up)


def _kept_in(folder: str, results: Results) -> Any:
    """The folder is on this host alone: no slot may write a checkpoint there."""
    return tune.RunConfig(
        storage_path=folder,
        name="study",
        verbose=0,
        callbacks=[results],
        checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
    )


def _configure_tune() -> None:
    """What has no parameter."""
    os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # `Results` says what failed
    # AWS keys would get into each actor's runtime environment, which Ray logs, stores and gives as an argument.
    names = class_cache.ENV_VARS_TO_PROPAGATE
    names.difference_update([name for name in names if names_secret(name)])


def _error_of(trial: Any) -> BaseException:
    """From the driver's own file: `Trial.get_error` reads one that Tune has not written yet."""
    path = Path(trial.pickled_error_file or "")
    if not path.is_file():
        return RuntimeError(f"{trial} ended with an error that Ray Tune did not keep")
    error: BaseException = pickle.loads(path.read_bytes())
    return error


def _bundle(config: dict[str, Any]) -> Any:
    """What a slot reserves: the devices of its trials, on the node that was chosen for them."""
    bundle = {"GPU": float(config["gpus"])} if config["gpus"] else {"CPU": float(config["cpus"])}
    return SlotRequest([bundle], bundle_label_selector=[{NODE: config["node"]}])
