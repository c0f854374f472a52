"""A slot: a Ray Tune actor that holds devices and runs one trial after another on them."""

import contextlib
import threading
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayError

from loadgen import Progress
from serving.deployment import SlotApplication, devices_of_actor
from serving.topology import Topology
from tuner.config.trial import TrialConfig
from tuner.study.slots.board import Beat
from tuner.trial.pruner import from_json
from tuner.trial.result import Measured
from tuner.trial.run import run_trial

BEAT_S = 1.0
MEASURED = "measured"  # the key of a trial's result in what `Slot.step` returns


class Delivery:
    """A trial's result on its way to the driver. Ray Tune formats what it receives: this is short."""

    def __init__(self, measured: Measured) -> None:
        self.measured = measured


class Slot(tune.Trainable):
    """Runs one trial per step, and one step per trial."""

    def setup(self, config: dict[str, Any], board: Any = None) -> None:
        """Called once per actor."""
        self._board = board
        self._application: tuple[tuple[int, int], SlotApplication] | None = None
        self._trial: int | None = None
        self._progress: Progress | None = None
        self._ended = threading.Event()
        threading.Thread(target=self._report, daemon=True, name="beat").start()

    def step(self) -> dict[str, Any]:
        """Runs the trial. Its result is what this returns: nothing else has to live for it to arrive."""
        number = self.config["number"]
        trial = TrialConfig.model_validate_json(self.config["trial"])
        self._progress, self._trial = None, number

        def post(progress: Progress) -> None:
            self._progress = progress

        baseline = from_json(text) if (text := self.config["baseline"]) else None
        try:
            measured = run_trial(trial, self._application_for(trial.reserves), post, baseline)
        finally:
            self._trial = self._progress = None
        return {"done": True, "number": number, MEASURED: Delivery(measured)}

    def present(self) -> None:
        """Lets `EngineReplica` see that this actor lives: calls fail for good once it is dead."""

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Takes the next trial; True keeps the actor."""
        self.config = new_config
        return True

    def cleanup(self) -> None:
        """Deletes the Serve application."""
        self._ended.set()
        self._drop_application()

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Trials are not checkpointed."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """See `save_checkpoint`."""

    def _application_for(self, topology: Topology) -> SlotApplication:
        shape = (topology.gpus, topology.cores)
        if self._application is not None and self._application[0] != shape:
            self._drop_application()
        if self._application is None:
            context = ray.get_runtime_context()
            application = SlotApplication(
                context.get_node_id(), topology, context.current_actor, devices_of_actor()
            )
            self._application = (shape, application)
        return self._application[1]

    def _drop_application(self) -> None:
        if self._application is not None:
            self._application[1].delete()
            self._application = None

    def _report(self) -> None:
        """Reports to the board from a thread. A board that is dead or busy misses a report, and no more."""
        context = ray.get_runtime_context()
        name, handle, count = context.get_actor_id(), context.current_actor, 0
        while not self._ended.wait(BEAT_S if count else 0):
            count += 1
            application = self._application
            waits = "" if application is None else application[1].waits
            beat = Beat(count, self._trial, self._progress, handle, waits)
            with contextlib.suppress(RayError):
                self._board.beat.remote(name, beat)
        with contextlib.suppress(RayError):
            self._board.leave.remote(name)
