"""Turns a raw level into a reported one: its window, and how accurately the client worked in it."""

import numpy as np
from numpy.typing import NDArray

from loadgen.control.level_controller import RawLevel
from loadgen.control.load_plan import Load
from loadgen.control.stopping import never_thinks, window_of
from loadgen.errors import EndpointErrors, EndpointUnreachable, PromptRefused
from loadgen.http.response import Outcome
from loadgen.results.report import Client, Level, Window
from loadgen.results.stats import OVERSATURATED
from loadgen.results.steady_state import SteadyWindow
from loadgen.workload.lengths import Length
from loadgen.workload.workload import Workload

_TEMPLATE_TOKENS = 64  # that a chat template puts before every prompt, at most
WHOLE_LEVEL = "no request was completed while all were running: the whole level is measured, start and end too"


def finalize_level(workload: Workload, load: Load, raw: RawLevel) -> Level:
    """The level with its window."""
    records = raw.records
    # A request that failed or was abandoned has no latency.
    first_ns = np.where(records.completed, records.first_ns, 0)
    found = window_of(
        workload,
        load,
        (raw.begin_ns, raw.close_ns),
        (records.due_ns, first_ns, records.end_ns),
    )
    found = _measurable(found, load, raw)
    window = Window(found.start_ns, found.end_ns)
    return Level(
        index=load.index,
        load=load.name,
        concurrency=load.concurrency,
        rate_per_s=load.rate_per_s,
        window=window,
        records=records,
        client=_client(raw, window),
        asked_input_tokens=_asked(workload, workload.input_tokens, workload.prompt == "token_ids"),
        asked_output_tokens=_asked(workload, workload.output_tokens, workload.ignore_eos),
        stopped=raw.stopped,
        window_share=window.seconds * 1e9 / max(1, raw.over_ns - raw.begin_ns),
        verdict=raw.ending.verdict,
        unsettled=found.unsettled,
        always_busy=never_thinks(workload),
        reused_prompts=raw.repeated,
        asked_hit_share=asked_hit_share(workload),
        template_tokens=_TEMPLATE_TOKENS if workload.endpoint == "chat" else 0,
        repeats=load.repeats,
    )


def _measurable(found: SteadyWindow, load: Load, raw: RawLevel) -> SteadyWindow:
    """The whole level where no request of the steady window was completed, as in a burst: never steady."""
    records = raw.records
    moments = records.due_ns if load.concurrency is None else records.end_ns
    inside = np.logical_and(moments >= found.start_ns, moments < found.end_ns)
    if raw.stopped or np.any(inside & records.completed) or not records.completed.any():
        return found
    if raw.ending.verdict == OVERSATURATED:
        return found
    return SteadyWindow(raw.begin_ns, max(raw.over_ns, raw.close_ns, raw.begin_ns) + 1, WHOLE_LEVEL)


def asked_hit_share(workload: Workload) -> float | None:
    """The share of prompt tokens that a prefix cache may hold by the workload; None: any."""
    parts = workload.mixture or (workload,)
    if any(part.conversation or part.dataset for part in parts):
        return None
    shares = [part.shared_prefix.hit_rate if part.shared_prefix else 0.0 for part in parts]
    return max(shares)


def raise_if_failed(raw: RawLevel, workload: Workload) -> None:
    """Raises a LoadError for a level without a completed request, or one that failures in a row ended."""
    records = raw.records
    if not raw.gave_up and (raw.stopped or records.completed.any()):
        return
    failed = np.flatnonzero(records.failed)
    if not len(failed):
        raise EndpointErrors("no request was answered before the level ended")
    last = int(failed[-1])
    line, status = records.error_text(last), int(records.status[last])
    if records.outcome[last] == Outcome.UNREACHABLE:
        raise EndpointUnreachable(line)
    if status in (400, 415, 422) and workload.prompt == "token_ids":
        hint = "(the prompt was a list of token ids: set prompt=text if the endpoint requires text)"
        raise PromptRefused(f"{line} {hint}", status)
    raise EndpointErrors(line, status or None)


def _asked(workload: Workload, length: Length | None, exact: bool) -> int | None:
    plain = not (workload.mixture or workload.dataset or workload.conversation)
    return length if exact and plain and isinstance(length, int) else None


def _client(raw: RawLevel, window: Window) -> Client:
    series = raw.series
    return Client(
        lateness_ns=series.lateness_ns[_within(series.lateness_at_ns, window)],
        loop_lag_ns=series.loop_lag_ns[_within(series.loop_lag_at_ns, window)],
        cpu_share=max(cpu_share(at_ns, cpu_ns, window) for at_ns, cpu_ns in raw.cpu),
        resent=raw.resent,
        connected=raw.connected,
        missed=_missed(raw, window),
        shards=len(raw.cpu),
        clock_uncertainty_ns=raw.clock_uncertainty_ns,
    )


def _missed(raw: RawLevel, window: Window) -> int:
    """Starts of the plan that fell due in the window, and have no record."""
    known = np.zeros(len(raw.planned_ns), np.bool_)
    slots = raw.records.slot
    known[slots[slots < len(known)]] = True
    return int(np.count_nonzero(_within(raw.planned_ns, window) & ~known))


def _within(at_ns: NDArray[np.int64], window: Window) -> NDArray[np.bool_]:
    return np.logical_and(at_ns >= window.start_ns, at_ns < window.end_ns)


def cpu_share(at_ns: NDArray[np.int64], cpu_ns: NDArray[np.int64], window: Window) -> float:
    """Processor time spent in the window, interpolated, over its length."""
    if len(at_ns) < 2 or window.end_ns <= window.start_ns:
        return 0.0
    begin, end = np.interp([window.start_ns, window.end_ns], at_ns, cpu_ns)
    covered_ns = min(window.end_ns, at_ns[-1]) - max(window.start_ns, at_ns[0])
    return float((end - begin) / covered_ns) if covered_ns > 0 else 0.0
