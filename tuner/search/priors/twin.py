"""The twin's prediction of a configuration, by a closed form that takes a few milliseconds."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from loadgen.errors import PromptRefused
from loadgen.prompts.length_sampling import sample_lengths
from loadgen.workload.arrivals import Adaptive, Closed
from loadgen.workload.lengths import Length
from loadgen.workload.workload import Part, Workload, longest_tokens
from serving.errors import OutOfMemory, ServingError
from serving.twin.api import Assembled, Setup, SteadyCurve, length_error, predict_curve
from serving.twin.errors import DeviceMemoryExhausted, NoClosedForm
from tuner.config.trial import TrialConfig
from tuner.metrics.derive import derive
from tuner.trial.simulate import assemble_twin

NOT_PREDICTED = "NotPredicted"


@dataclass(frozen=True, slots=True)
class LoadPrediction:
    """One load level of a trial, under the names of `loadgen.results.metrics` and `tuner.metrics`.

    Only metrics that the model can state are there; its medians are means. `queued`: more users than are
    served at once.
    """

    load: str
    users: float
    metrics: Mapping[str, float]
    queued: bool


@dataclass(frozen=True, slots=True)
class NoPrediction:
    """Why there is no prediction.

    `failure`: the class of error that the trial would end with, or `NOT_PREDICTED` where the trial may run;
    `evidence`: one line.
    """

    failure: str
    evidence: str


def predicted_curve(config: TrialConfig) -> tuple[LoadPrediction, ...] | NoPrediction:
    """The steady state of each load level, by rising load.

    All requests have the mean length, and share no prefix but what the workload states.
    """
    twin = config.twin
    if twin is None:
        return NoPrediction(NOT_PREDICTED, f"hardware {config.hardware.name} has no twin")
    try:
        prompt, output, cached = mean_lengths(config.workload)
        users = _ladder(config.workload)
        parsed, assembled = assemble_twin(config, twin)
        if why := _too_long(config.workload, parsed.setup):
            return NoPrediction(PromptRefused.__name__, why)
        known = cached if parsed.setup.prefix_caching else 0.0
        curve = predict_curve(assembled, prompt, output, users, known)
    except NoClosedForm as error:
        return NoPrediction(NOT_PREDICTED, str(error))
    except ServingError as error:
        return NoPrediction(type(error).__name__, (str(error).strip().splitlines() or [""])[0])
    except DeviceMemoryExhausted as error:
        return NoPrediction(OutOfMemory.__name__, str(error))
    return tuple(_predictions(config, curve, prompt / output, assembled))


def mean_lengths(workload: Workload) -> tuple[float, float, float]:
    """Tokens of the mean request: its prompt, its output, and the part of the prompt that is a shared prefix.

    Raises NoClosedForm for data sets and conversations.
    """
    parts: Sequence[Part | Workload] = workload.mixture or (workload,)
    rows, weights = [], []
    for part in parts:
        if part.dataset or part.conversation or not part.input_tokens or not part.output_tokens:
            raise NoClosedForm("data sets and conversations have no closed form")
        prompt, output = _mean(part.input_tokens), _mean(part.output_tokens)
        share = part.shared_prefix.hit_rate if part.shared_prefix else 0.0
        rows.append((prompt, output, share * prompt))
        weights.append(part.weight if isinstance(part, Part) else 1.0)
    prompt, output, cached = np.average(rows, axis=0, weights=weights).tolist()
    return prompt, output, cached


@lru_cache(maxsize=64)
def _mean(length: Length) -> float:
    if isinstance(length, int):
        return float(length)
    return float(sample_lengths(length, np.random.default_rng(0)).mean())


def _ladder(workload: Workload) -> list[float]:
    """Users of each level; of an adaptive ladder, every doubling between its bounds."""
    match workload.arrival:
        case Closed(concurrency=steps):
            return sorted(map(float, steps))
        case Adaptive(loop="closed", lowest=lowest, highest=highest):
            count = int(np.floor(np.log2(highest / lowest) + 1e-9)) + 1
            return [float(round(lowest * 2**i)) for i in range(count)]
        case _:
            raise NoClosedForm("only closed loops have a closed form")


def _too_long(workload: Workload, setup: Setup) -> str:
    """Why the engine would refuse the longest requests; empty if it would not."""
    longest = longest_tokens(workload)
    message = "" if longest is None else length_error(setup, *longest)
    return message.partition("\n")[0]


def _predictions(
    config: TrialConfig, curve: SteadyCurve, prompt_share: float, assembled: Assembled
) -> Iterator[LoadPrediction]:
    gpus, devices = assembled.emulation.gpus, config.devices
    for i, users in enumerate(curve.users.tolist()):
        output_s, tpot_ms = float(curve.output_tok_s_gpu[i]) * gpus, float(curve.tpot_s[i]) * 1e3
        ttft_ms, watts = float(curve.ttft_s[i]) * 1e3, float(curve.watts_gpu[i])
        predicted: dict[str, float | None] = {
            "throughput_output_tok_s": output_s,
            "throughput_input_tok_s": output_s * prompt_share,
            "throughput_total_tok_s": output_s * (1 + prompt_share),
            "interactivity_tok_s_user": 1e3 / tpot_ms,
            "ttft_p50_ms": ttft_ms,
            "ttft_mean_ms": ttft_ms,
            "tpot_p50_ms": tpot_ms,
            "tpot_mean_ms": tpot_ms,
        }
        if np.isfinite(watts):
            joules = watts * gpus / output_s
            predicted["power_w_device"] = watts * gpus / devices
            predicted["energy_j_per_output_tok"] = joules
            predicted["energy_j_per_total_tok"] = joules / (1 + prompt_share)
        derived, _ = derive(predicted, devices, config.hardware, config.economics)
        known = {k: v for k, v in {**predicted, **derived}.items() if v is not None}
        yield LoadPrediction(f"closed {users:g}", users, known, bool(curve.queued[i]))
