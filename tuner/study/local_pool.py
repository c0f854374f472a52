"""Runs a study on the virtual clock: the same search, ledger and report, one process per core, no Ray."""

import ctypes
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor

from tuner.config.errors import ConfigError
from tuner.config.study import StudyConfig
from tuner.config.trial import TrialConfig
from tuner.search import Proposal, Source
from tuner.study.environment import narrowed, needed_by_simulation
from tuner.trial.pruner import PruningBaseline
from tuner.trial.result import Measured
from tuner.trial.simulate import simulate_trial

_PR_SET_PDEATHSIG = 1
POLL_S = 0.2  # how soon a Ctrl-C is noticed while a trial runs


def check_simulable(config: StudyConfig) -> None:
    """Raises ConfigError for a study whose hardware is real."""
    if config.hardware.twin is None:
        raise ConfigError(
            f"hardware: {config.hardware.name} is not emulated, so it can't be simulated: "
            "hardware=b300_twin is one"
        )


def simulate(source: Source, workers: int | None = None) -> None:
    """Runs the trials that `source` proposes until it proposes no more. Raises errors that are not results.

    Results are handed over in the order of the trials, whichever ends first: with the same number of workers a
    study proposes the same trials each time, also one that was stopped and resumed. For that, trials that run
    when the source is closed are given up; they run again when the study is resumed.
    """
    count = workers or len(os.sched_getaffinity(0))
    # Fresh interpreters: a fork would copy locks that this process's threads hold.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(
        count, mp_context=context, initializer=_bind_to_driver, initargs=(os.getpid(),)
    )

    def submit(proposal: Proposal) -> Future[Measured]:
        text = proposal.config.model_dump_json()
        return pool.submit(_simulated, text, proposal.baseline)

    whole = False
    try:
        with narrowed(needed_by_simulation()):
            whole = run_in_order(source, submit, count)
    finally:
        if not whole:
            for worker in multiprocessing.active_children():
                worker.kill()
        pool.shutdown(cancel_futures=True)


def run_in_order(
    source: Source, submit: Callable[[Proposal], Future[Measured]], workers: int
) -> bool:
    """Hands over the results in the order of the trials. Returns False if the source was closed before.

    Twice as many trials as workers are submitted, so that no worker idles while an earlier trial runs on.
    """
    running: deque[tuple[int, Future[Measured]]] = deque()
    while not source.closed:
        while len(running) < 2 * workers and (proposal := source.ask()) is not None:
            running.append((proposal.number, submit(proposal)))
        if not running:
            return True
        number, future = running[0]
        try:
            measured = future.result(timeout=POLL_S)
        except TimeoutError:
            continue
        running.popleft()
        source.finished(number, measured)
    return not running


def _bind_to_driver(driver: int) -> None:
    """Leaves Ctrl-C to the driver, and dies with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != driver:  # the driver died before prctl
        os._exit(1)


def _simulated(trial: str, baseline: PruningBaseline | None) -> Measured:
    return simulate_trial(TrialConfig.model_validate_json(trial), baseline)
