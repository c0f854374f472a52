"""How long a request takes at each load, and an engine to start, before anything runs.

From the twin's closed form where it knows model and hardware; else from the size of the model. Each figure
comes with the standard deviation of its logarithm, over engines and machines that it was not fitted to.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from loadgen.prompts.length_sampling import sample_lengths
from loadgen.workload.arrivals import Adaptive, Closed
from loadgen.workload.lengths import Length
from loadgen.workload.workload import Content, Part, Workload
from serving.engines import Engine, External
from serving.errors import ServingError
from serving.twin.api import SYSTEMS
from serving.twin.config import System, TwinConfig
from tuner.config.groups.hardware import Hardware
from tuner.config.trial import TrialConfig
from tuner.search.priors.roofline import parameters_read
from tuner.search.priors.twin import NOT_PREDICTED, LoadPrediction, NoPrediction, predicted_curve
from tuner.study.planning.weights import listed_facts, parameters_of, weights_bytes
from tuner.trial.simulate import assemble_twin

Floats = NDArray[np.float64]
GRID = tuple(float(2**i) for i in range(13))  # users
DATASET_TOKENS = (1500.0, 300.0)  # prompt and answer, where a data set decides
# Seconds to read the weights once they are on the node: local NVMe, or the page cache.
DISK_BYTES_S, DISK_DEVIATION = 3e9, 0.5
START_DEVIATION = 0.35
# Standard deviations of the logarithm of a latency, over studies.
EMULATED, LIKE_TWIN, BY_SIZE, BY_SIZE_UNKNOWN = 0.08, 0.35, 0.55, 1.1
EMULATOR_START_S = 4.0  # Python and its imports, where an emulator starts on the wall clock
SATURATED = 0.8  # of the highest rate: a level is too short for the queue beyond it
FAILED_START = 0.5  # of a start, after which an engine that can't start has failed

# A CPU core, and a GPU without a table: FLOP/s and bytes/s that an engine reaches; seconds of a step besides.
CORE, GPU = (1.5e10, 6e9, 3e-3), (6e14, 3.5e12, 4e-3)


@dataclass(frozen=True, slots=True)
class Speed:
    """Of one configuration. `latency_s` of a request at `users`, rising; `deviation` of its logarithm.

    `start_s`, `start_deviation`: of the engine's start. `fails`: it ends in its start. `source`: what
    predicted it, as shown to people.
    """

    users: tuple[float, ...]
    latency_s: tuple[float, ...]
    deviation: float
    start_s: float
    start_deviation: float
    fails: bool = False
    source: str = ""
    weights_bytes: float | None = None

    def at(self, users: Floats) -> Floats:
        """Seconds of a request with so many in flight."""
        logs = np.interp(
            np.log(np.maximum(users, 1e-9)), np.log(self.users), np.log(self.latency_s)
        )
        beyond = np.maximum(users / self.users[-1], 1.0)  # saturated: they wait in turn
        return np.asarray(np.exp(logs) * beyond, np.float64)

    def slower(self, times: float) -> "Speed":
        """The same where all takes so many times longer."""
        latency_s = tuple(times * each for each in self.latency_s)
        return replace(self, latency_s=latency_s, start_s=times * self.start_s)

    def in_flight(self, rates_per_s: Floats) -> Floats:
        """Users whose requests come at these rates (Little's law); at most those just below saturation."""
        served = np.maximum.accumulate(np.array(self.users) / np.array(self.latency_s))
        served += np.arange(len(served)) * 1e-9
        rates = np.minimum(rates_per_s, SATURATED * served[-1])
        logs = np.interp(np.log(rates), np.log(served), np.log(self.users))
        below = np.minimum(rates / served[0], 1.0)
        return np.asarray(np.exp(logs) * below, np.float64)


def speed_of(trial: TrialConfig, like: System | None = None, *, virtual: bool = False) -> Speed:
    """The expected speed of a trial. `like`: the emulated system that stands for real hardware.

    `virtual`: on the virtual clock, whose starts take as long as real ones.
    """
    size = weights_bytes(trial.model, trial.engine)
    system = like or system_like(trial.hardware)
    emulated = trial.hardware.twin is not None
    start_s, start_deviation = _start(trial.engine, size)
    predicted = None
    if system is not None or emulated:
        predicted = _by_twin(trial, None if emulated else system)
    if emulated:
        start_s, start_deviation = _emulated_start_s(trial, virtual), 0.05 if virtual else 0.4
    if isinstance(predicted, NoPrediction):
        nothing = 0.0 if virtual else FAILED_START * start_s
        return Speed((1.0,), (1.0,), 0.0, nothing, 0.3, fails=True, weights_bytes=size)
    if predicted is not None:
        name = trial.hardware.twin.system if trial.hardware.twin is not None else system
        deviation = EMULATED if emulated else LIKE_TWIN
        users, latency_s = predicted
        source = f"the twin of {name}"
        return Speed(users, latency_s, deviation, start_s, start_deviation, source=source,
                     weights_bytes=size)  # fmt: skip
    known = size is not None
    latency_s = _by_size(trial, size if size is not None else 3e10)
    source = "the size of the model" if known else "no figure of this model: assumed"
    deviation = BY_SIZE if known else BY_SIZE_UNKNOWN
    return Speed(GRID, latency_s, deviation, start_s, start_deviation, source=source,
                 weights_bytes=size)  # fmt: skip


def system_like(hardware: Hardware) -> System | None:
    """The emulated system of the same GPU as real hardware, by its name: HGX B300 → b300_sxm."""
    if hardware.device != "GPU":
        return None
    words = set(re.findall(r"[a-z]+\d+", hardware.name.lower()))
    systems: Mapping[str, System] = {key.partition("_")[0]: key for key in SYSTEMS}  # type: ignore[misc]
    return next((systems[word] for word in sorted(words & systems.keys())), None)


def mean_tokens(workload: Workload) -> tuple[float, float]:
    """Prompt and answer tokens of the mean request; of a conversation, of its middle turn."""
    rows, weights = [], []
    for part in workload.mixture or (workload,):
        rows.append(_part_tokens(part))
        weights.append(part.weight if isinstance(part, Part) else 1.0)
    prompt, answer = np.average(rows, axis=0, weights=weights).tolist()
    return prompt, answer


def _part_tokens(part: Content) -> tuple[float, float]:
    prompt, answer = DATASET_TOKENS
    if part.output_tokens is not None:
        answer = _mean(part.output_tokens)
    if part.dataset is None and part.input_tokens is not None:
        prompt = _mean(part.input_tokens)
    if part.conversation is not None:
        before = (_mean(part.conversation.turns) - 1) / 2
        prompt += before * (answer + _mean(part.conversation.next_tokens))
    return prompt, answer


@lru_cache(maxsize=64)
def _mean(length: Length) -> float:
    if isinstance(length, int):
        return float(length)
    return float(sample_lengths(length, np.random.default_rng(0)).mean())


def _by_twin(
    trial: TrialConfig, system: System | None
) -> tuple[tuple[float, ...], tuple[float, ...]] | NoPrediction | None:
    """Latency by users, of the mean request alone; None where the twin has none; NoPrediction: it can't run."""
    prompt, answer = (max(2, round(tokens)) for tokens in mean_tokens(trial.workload))
    changed: dict[str, object] = {
        "arrival": Closed(concurrency=tuple(round(users) for users in _grid(trial.workload))),
        "input_tokens": prompt, "output_tokens": answer,
        "mixture": (), "conversation": None, "dataset": None,
    }  # fmt: skip
    workload = trial.workload.model_copy(update=changed)
    hardware = trial.hardware
    if system is not None:
        hardware = hardware.model_copy(update={"twin": TwinConfig(system=system)})
    like = trial.model_copy(update={"workload": workload, "hardware": hardware})
    found = predicted_curve(like)
    if isinstance(found, NoPrediction):
        certain = found.failure != NOT_PREDICTED and system is None
        return found if certain else None
    return tuple(each.users for each in found), tuple(_latency_s(each, answer) for each in found)


def _grid(workload: Workload) -> tuple[float, ...]:
    """Users at which a curve is predicted: no more than the workload has, which might not fit the memory."""
    match workload.arrival:
        case Closed(concurrency=users):
            most = float(max(users))
        case Adaptive(loop="closed", highest=highest):
            most = highest
        case _:
            most = 512.0
    return (*(users for users in GRID if users < most), most)


def _latency_s(level: LoadPrediction, answer: float) -> float:
    found = level.metrics
    return (found["ttft_mean_ms"] + found["tpot_mean_ms"] * (answer - 1)) / 1e3


def _by_size(trial: TrialConfig, size: float) -> tuple[float, ...]:
    """Latency over `GRID`: a step reads the weights and computes each token (a roofline)."""
    prompt, answer = mean_tokens(trial.workload)
    cores, gpus = trial.topology.cpus, trial.topology.gpus
    flop_s, bytes_s, step_s = CORE if cores else GPU
    units = float(cores or gpus or 1)
    facts = listed_facts(trial.model.source)
    users = np.array(GRID)
    read, active = np.full(len(users), size), parameters_of(trial.model) or size / 2
    if facts is not None:
        read = np.array([size * parameters_read(facts, each) / facts.parameters for each in users])
        active = facts.active_parameters
    work = 2 * active / (flop_s * units)  # s of a token
    decode_s = np.maximum(read / (bytes_s * units), users * work) + step_s
    return tuple((prompt * work * (users + 1) / 2 + answer * decode_s).tolist())


def _start(engine: Engine, size: float | None) -> tuple[float, float]:
    """Seconds of a real engine's start, and the deviation of its logarithm."""
    if isinstance(engine, External):
        return 0.0, 0.0
    read_s = (3e10 if size is None else size) / DISK_BYTES_S
    start_s = engine.typical_start_s + read_s
    apart = np.hypot(
        START_DEVIATION, DISK_DEVIATION * read_s / start_s * (1 if size is not None else 2)
    )
    return start_s, float(apart)


def _emulated_start_s(trial: TrialConfig, virtual: bool) -> float:
    twin = trial.twin
    assert twin is not None, "checked by the caller"
    try:
        start_s = assemble_twin(trial, twin)[1].start_s
    except ServingError:
        start_s = 0.0
    return start_s if virtual else EMULATOR_START_S + twin.start_scale * start_s
