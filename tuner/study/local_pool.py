"""A whole study on the twin's virtual clock: the same search, ledger and report, and as many trials at
once as there are cores. No Ray, no server, no waiting."""

import ctypes
import multiprocessing
import os
import signal
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait

from tuner.config.errors import ConfigError
from tuner.config.study import StudyConfig
from tuner.config.trial import TrialConfig
from tuner.search import Source
from tuner.trial.pruner import Hurdle
from tuner.trial.result import Measured
from tuner.trial.simulate import simulate_trial

_PR_SET_PDEATHSIG = 1


def check_simulable(config: StudyConfig) -> None:
    """Raises ConfigError for a study whose hardware is real."""
    if config.hardware.twin is None:
        raise ConfigError(
            f"hardware: {config.hardware.name} is no twin, it can't be simulated: "
            "hardware=b300_twin is one"
        )


def simulate(source: Source, workers: int | None = None) -> None:
    """Runs what `source` asks for until it wants no more. An error that is no result is raised."""
    count = workers or len(os.sched_getaffinity(0))
    running: dict[Future[Measured], int] = {}
    # Fresh interpreters: a fork would take the threads' locks of this one along.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(
        count, mp_context=context, initializer=_ours_to_end, initargs=(os.getpid(),)
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


def _ours_to_end(driver: int) -> None:
    """Ctrl-C is for the driver to answer; and where the driver is killed, its workers go too."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != driver:  # killed before this
        os._exit(1)


def _fill(
    pool: ProcessPoolExecutor, source: Source, running: dict[Future[Measured], int], count: int
) -> bool:
    """One more than there are workers waits, so that none stands idle while a result is written."""
    while len(running) < count + 1:
        proposal = source.ask()
        if proposal is None:
            return False
        text = proposal.config.model_dump_json()
        running[pool.submit(_simulated, text, proposal.hurdle)] = proposal.number
    return True


def _simulated(trial: str, hurdle: Hurdle | None) -> Measured:
    return simulate_trial(TrialConfig.model_validate_json(trial), hurdle)
