"""From what happened at a level to the level as it is reported: its window, and the client's part in it."""

import numpy as np
from numpy.typing import NDArray

from loadgen.control.level_controller import Outcomes
from loadgen.control.load_plan import Load
from loadgen.control.stopping import never_thinks, window_of
from loadgen.errors import EndpointErrors, EndpointUnreachable, PromptRefused
from loadgen.http.response_parser import Outcome
from loadgen.results.records import Records
from loadgen.results.report import Client, Level, Window
from loadgen.worker.messages import Series
from loadgen.workload.lengths import Length
from loadgen.workload.workload import Workload


def settled(workload: Workload, load: Load, outcomes: Outcomes) -> Level:
    records = outcomes.records
    # What failed, or was given up, has no latency to look at.
    first_ns = np.where(records.completed, records.first_ns, 0)
    found = window_of(
        workload,
        load,
        (outcomes.begin_ns, outcomes.close_ns),
        (records.due_ns, first_ns, records.end_ns),
    )
    window = Window(found.start_ns, found.end_ns)
    return Level(
        index=load.index,
        load=load.name,
        concurrency=load.concurrency,
        rate_per_s=load.rate_per_s,
        window=window,
        warmup_s=(window.start_ns - outcomes.begin_ns) / 1e9,
        drain_s=(outcomes.over_ns - window.end_ns) / 1e9,
        records=records,
        client=_client(outcomes, window),
        asked_input_tokens=_asked(workload, workload.input_tokens, workload.prompt == "token_ids"),
        asked_output_tokens=_asked(workload, workload.output_tokens, workload.ignore_eos),
        stopped=outcomes.stopped,
        window_share=window.seconds * 1e9 / max(1, outcomes.over_ns - outcomes.begin_ns),
        verdict=outcomes.ending.verdict,
        unsettled=found.unsettled,
        always_busy=never_thinks(workload),
        reused_prompts=outcomes.repeated,
    )


def raise_if_hopeless(outcomes: Outcomes, workload: Workload) -> None:
    """A level without one completed request, or one that had to be given up, measured nothing.

    Raises the LoadError that says why.
    """
    records: Records = outcomes.records
    if not outcomes.gave_up and (outcomes.stopped or records.completed.any()):
        return
    failed = np.flatnonzero(records.failed)
    if not len(failed):
        raise EndpointErrors("no request was answered in the time given to the level")
    last = int(failed[-1])
    line, status = records.error_text(last), int(records.status[last])
    if records.outcome[last] == Outcome.UNREACHABLE:
        raise EndpointUnreachable(line)
    if status in (400, 415, 422) and workload.prompt == "token_ids":
        hint = "(the prompt was a list of token ids: if the endpoint takes none, set prompt=text)"
        raise PromptRefused(f"{line} {hint}", status)
    raise EndpointErrors(line, status or None)


def _asked(workload: Workload, length: Length | None, exact: bool) -> int | None:
    plain = not (workload.mixture or workload.dataset or workload.conversation)
    return length if exact and plain and isinstance(length, int) else None


def _client(outcomes: Outcomes, window: Window) -> Client:
    series: Series = outcomes.series
    return Client(
        lateness_ns=series.lateness_ns[_within(series.lateness_at_ns, window)],
        loop_lag_ns=series.loop_lag_ns[_within(series.loop_lag_at_ns, window)],
        cpu_share=max(cpu_share(at_ns, cpu_ns, window) for at_ns, cpu_ns in outcomes.cpu),
        resent=outcomes.resent,
        connected=outcomes.connected,
        shards=len(outcomes.cpu),
        clock_uncertainty_ns=outcomes.clock_uncertainty_ns,
    )


def _within(at_ns: NDArray[np.int64], window: Window) -> NDArray[np.bool_]:
    return np.logical_and(at_ns >= window.start_ns, at_ns < window.end_ns)


def cpu_share(at_ns: NDArray[np.int64], cpu_ns: NDArray[np.int64], window: Window) -> float:
    """Processor time between the ends of the window, interpolated, over its length."""
    if len(at_ns) < 2 or window.end_ns <= window.start_ns:
        return 0.0
    begin, end = np.interp([window.start_ns, window.end_ns], at_ns, cpu_ns)
    covered_ns = min(window.end_ns, at_ns[-1]) - max(window.start_ns, at_ns[0])
    return float((end - begin) / covered_ns) if covered_ns > 0 else 0.0
