"""Ray Tune runs the trials: a slot is an actor that holds devices and is reused by the next trial."""

import os
import pickle
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayActorError, RayError
from ray.tune.search import Searcher

from loadgen import Progress
from serving.deployment import SlotApplication
from serving.topology import Topology
from tuner.config.trial import TrialConfig
from tuner.search import Source
from tuner.study.capacity import Capacity, size
from tuner.study.ray_cluster import BENCH_CPU, BENCH_GPU
from tuner.trial.pruner import from_json, to_json
from tuner.trial.result import Measured, with_wall
from tuner.trial.run import run_trial

POST_EVERY_S = 0.5
READ_S = 5.0


class Board:
    """Carries progress and results from the slots to the driver. An actor, one per study."""

    def __init__(self) -> None:
        self._progress: dict[int, Progress | None] = {}
        self._results: dict[int, Measured] = {}

    def post(self, number: int, progress: Progress | None) -> None:
        """A slot reports the progress of its trial; None before the load starts."""
        self._progress[number] = progress

    def progress(self) -> dict[int, Progress | None]:
        """Trial number → its latest progress."""
        return self._progress

    def deliver(self, number: int, measured: Measured) -> None:
        """A slot hands a finished trial over."""
        self._results[number] = measured
        self._progress.pop(number, None)

    def collect(self, number: int) -> Measured:
        """The driver takes a finished trial."""
        return self._results.pop(number)

    def forget(self, number: int) -> None:
        """Drops the progress of a trial that died."""
        self._progress.pop(number, None)


class Slot(tune.Trainable):
    """Runs one trial per step, and one step per trial."""

    def setup(self, config: dict[str, Any], board: Any = None) -> None:
        """Called once per actor."""
        self._board = board
        self._application: tuple[tuple[int, int], SlotApplication] | None = None

    def step(self) -> dict[str, Any]:
        """Runs the trial and delivers its result to the board."""
        number = self.config["number"]
        trial = TrialConfig.model_validate_json(self.config["trial"])
        last = 0.0

        def post(progress: Progress) -> None:
            nonlocal last
            if time.monotonic() - last >= POST_EVERY_S:
                last = time.monotonic()
                self._board.post.remote(number, progress)

        self._board.post.remote(number, None)
        baseline = from_json(text) if (text := self.config["baseline"]) else None
        measured = run_trial(trial, self._application_for(trial.topology), post, baseline)
        ray.get(self._board.deliver.remote(number, measured))
        return {"done": True, "number": number}

    def present(self) -> None:
        """Lets `EngineReplica` see that this actor lives: calls fail for good once it is dead."""

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Takes the next trial; True keeps the actor."""
        self.config = new_config
        return True

    def cleanup(self) -> None:
        """Deletes the Serve application."""
        if self._application is not None:
            self._application[1].delete()
            self._application = None

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Trials are not checkpointed."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """See `save_checkpoint`."""

    def _application_for(self, topology: Topology) -> SlotApplication:
        shape = (topology.gpus, topology.cpus)
        if self._application is not None and self._application[0] != shape:
            self.cleanup()
        if self._application is None:
            context = ray.get_runtime_context()
            application = SlotApplication(context.get_node_id(), topology, context.current_actor)
            self._application = (shape, application)
        return self._application[1]


class _Unsaved:
    """Pickles as nothing: Tune saves its parts in order to restore them, but studies resume from the ledger."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class StudySearcher(_Unsaved, Searcher):
    """Asks the study for a trial only when devices are free, so that each proposal knows all results so far."""

    def __init__(self, source: Source, capacity: Capacity) -> None:
        super().__init__()
        self._source, self._capacity = source, capacity
        self._live: dict[str, Topology] = {}
        self._seen: set[Topology] = set()
        self.asked_at: dict[int, float] = {}

    def suggest(self, trial_id: str) -> Any:
        """The next trial; None to be asked again later."""
        if self._live and not self._room():
            return None
        proposal = self._source.ask()
        if proposal is None:  # while trials run, their results may lead to more
            return None if self._live else str(Searcher.FINISHED)
        topology = proposal.config.topology
        self._capacity.check(topology)
        self._live[trial_id] = topology
        self._seen.add(topology)
        self.asked_at[proposal.number] = time.monotonic()
        return {
            "number": proposal.number,
            "trial": proposal.config.model_dump_json(),
            "baseline": to_json(proposal.baseline) if proposal.baseline else "",
            "gpus": topology.gpus,
            "cpus": topology.cpus,
        }

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Frees the trial's devices."""
        self._live.pop(trial_id, None)

    def _room(self) -> bool:
        """Whether the smallest topology seen so far fits: the next one's is unknown until it is proposed."""
        return self._capacity.holds([*self._live.values(), min(self._seen, key=size)])

    def save(self, checkpoint_path: str) -> None:
        """Studies resume from the ledger."""

    def restore(self, checkpoint_path: str) -> None:
        """See `save`."""


class Results(_Unsaved, tune.Callback):
    """Hands results to the study before Tune asks for the next trial."""

    def __init__(self, source: Source, board: Any, asked_at: dict[int, float]) -> None:
        self._source, self._board, self._asked_at = source, board, asked_at
        self.bug: BaseException | None = None

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any
    ) -> None:
        """A trial finished."""
        number = trial.config["number"]
        measured = ray.get(self._board.collect.remote(number))
        wall_s = time.monotonic() - self._asked_at[number]
        self._source.finished(number, with_wall(measured, wall_s))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """A slot died, which is a result; any other error is a bug, and closes the study."""
        number, error = trial.config["number"], _error_of(trial)
        self._board.forget.remote(number)
        if isinstance(error, RayActorError):
            self._source.died(number, "the Ray worker that ran the trial died")
        else:
            self.bug = self.bug or error
            self._source.close()


def run_trials(source: Source, capacity: Capacity, watch: Callable[[Any], None]) -> None:
    """Runs the trials that `source` proposes, as many at once as devices allow, until it proposes no more.

    `watch` receives a function that returns the progress of running trials. An error that is not a trial's
    result is a bug: it is raised once the other running trials have finished.
    """
    board = ray.remote(num_cpus=0)(Board).remote()
    watch(lambda: _read(board))
    searcher = StudySearcher(source, capacity)
    results = Results(source, board, searcher.asked_at)
    trainable = tune.with_resources(tune.with_parameters(Slot, board=board), _bundle)
    with tempfile.TemporaryDirectory(prefix="wattfront-tune-") as folder:
        tuner = tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                num_samples=source.remaining(),
                reuse_actors=True,
                trial_name_creator=lambda trial: f"trial-{trial.config['number']:03d}",
                trial_dirname_creator=lambda trial: f"trial-{trial.config['number']:03d}",
            ),
            run_config=tune.RunConfig(
                storage_path=folder, name="study", verbose=0, callbacks=[results]
            ),
        )
        os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
        tuner.fit()
    if results.bug is not None:
        raise results.bug


def _error_of(trial: Any) -> BaseException:
    """From the driver's own file: `Trial.get_error` reads one that Tune has not written yet."""
    path = Path(trial.pickled_error_file or "")
    if not path.is_file():
        return RuntimeError(f"{trial} ended with an error that Ray Tune did not keep")
    error: BaseException = pickle.loads(path.read_bytes())
    return error


def _read(board: Any) -> dict[int, Progress | None]:
    """Empty while Ray shuts down, so that the display does not fail."""
    try:
        progress: dict[int, Progress | None] = ray.get(board.progress.remote(), timeout=READ_S)
    except (RayError, ValueError, ConnectionError):
        progress = {}
    return progress


def _bundle(config: dict[str, Any]) -> Any:
    bundle = {"CPU": 0.0}
    if config["gpus"]:
        bundle[BENCH_GPU] = float(config["gpus"])
    else:
        bundle[BENCH_CPU] = float(config["cpus"])
    return tune.PlacementGroupFactory([bundle])
