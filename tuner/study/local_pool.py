"""Runs a study on the virtual clock: the same search, ledger and report, one process per core, no Ray."""

import ctypes
import multiprocessing
import os
import signal
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait

from tuner.config.errors import ConfigError
from tuner.config.study import StudyConfig
from tuner.config.trial import TrialConfig
from tuner.search import Source
from tuner.trial.pruner import PruningBaseline
from tuner.trial.result import Measured
from tuner.trial.simulate import simulate_trial

_PR_SET_PDEATHSIG = 1


def check_simulable(config: StudyConfig) -> None:
    """Raises ConfigError for a study whose hardware is real."""
    if config.hardware.twin is None:
        raise ConfigError(
            f"hardware: {config.hardware.name} is not emulated, so it can't be simulated: "
            "hardware=b300_twin is one"
        )


def simulate(source: Source, workers: int | None = None) -> None:
    """Runs the trials that `source` proposes until it proposes no more. Raises errors that are not results."""
    count = workers or len(os.sched_getaffinity(0))
    running: dict[Future[Measured], int] = {}
    # Fresh interpreters: a fork would copy locks that this process's threads hold.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(
        count, mp_context=context, initializer=_bind_to_driver, initargs=(os.getpid(),)
    )
    try:
        while _fill(pool, source, running, count) or running:
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in sorted(done, key=lambda each: running[each]):
                source.finished(running.pop(future), future.result())
    except KeyboardInterrupt:
        for worker in multiprocessing.active_children():
            worker.kill()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _bind_to_driver(driver: int) -> None:
    """Leaves Ctrl-C to the driver, and dies with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != driver:  # the driver died before prctl
        os._exit(1)


def _fill(
    pool: ProcessPoolExecutor, source: Source, running: dict[Future[Measured], int], count: int
) -> bool:
    """Keeps one trial more than workers queued, so that no worker idles while a result is written."""
    while len(running) < count + 1:
        proposal = source.ask()
        if proposal is None:
            return False
        text = proposal.config.model_dump_json()
        running[pool.submit(_simulated, text, proposal.baseline)] = proposal.number
    return True


def _simulated(trial: str, baseline: PruningBaseline | None) -> Measured:
    return simulate_trial(TrialConfig.model_validate_json(trial), baseline)
