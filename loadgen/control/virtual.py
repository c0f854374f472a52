"""The same load on a virtual clock: no network and no waiting, against a server with a clock of its own.

Load plan, dispatch policy, stopping rule, window and statistics are those of a load on the wall clock; only
sending and receiving differ.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from loadgen.clock import ClockAnchor
from loadgen.control.finalize import finalize_level, raise_if_failed
from loadgen.control.level_controller import RawLevel
from loadgen.control.live_stats import LiveStats
from loadgen.control.load_plan import Load, plan_of, planned_ns
from loadgen.control.measured_levels import MeasuredLevels
from loadgen.control.stopping import Ending, StoppingRule
from loadgen.errors import LoadError
from loadgen.http.response import Outcome
from loadgen.prompts.base import Source
from loadgen.prompts.build import build
from loadgen.results.records import Records, offsets_of
from loadgen.results.report import Level, LoadReport
from loadgen.worker.messages import Plan, TimingSeries
from loadgen.worker.virtual_dispatcher import (
    VirtualDispatcher,
    VirtualExchange,
    VirtualServer,
    ns_of,
)
from loadgen.workload.workload import Workload

_UPDATE_S, _UPDATE_SHARE = 0.2, 0.05  # between live updates; of the level's time so far, if longer
_STATUS = {Outcome.REFUSED: 400, Outcome.TIMED_OUT: 0}


def run_virtual(
    server: VirtualServer,
    workload: Workload,
    *,
    vocabulary: int,
    first: float | None = None,
    after_level: Callable[[Level], str] | None = None,
) -> LoadReport:
    """`loadgen.run` on a virtual clock. Raises a LoadError if the first level has no answer at all."""
    if workload.prompt_salt is None:  # no cache of an earlier run: always the same prompts
        workload = workload.model_copy(update={"prompt_salt": 0})
    source, measured = (
        _source(workload.model_dump_json(), vocabulary),
        MeasuredLevels(workload, first),
    )
    used, begin_s = 0, 0.0

    def report(**how: Any) -> LoadReport:
        return LoadReport(measured.levels, ClockAnchor(0, 0), **how)

    while (load := measured.next()) is not None:
        plan = plan_of(workload, load, used)
        dispatcher = VirtualDispatcher(server, plan, source, begin_s)
        raw = _run_level(dispatcher, workload, load, plan)
        begin_s = dispatcher.now_s
        try:
            raise_if_failed(raw, workload)
        except LoadError as error:
            if not len(measured):
                raise
            return report(failure=error)
        level = finalize_level(workload, load, raw)
        measured.add(load, level)
        used += raw.used
        if why := measured.ended_by(after_level, level):
            return report(ended_because=why)
    return report()


@lru_cache(maxsize=4)
def _source(workload: str, vocabulary: int) -> Source:
    """Built once for all trials of a study: their requests are the same."""
    return build(Workload.model_validate_json(workload), vocabulary)


def _run_level(
    dispatcher: VirtualDispatcher, workload: Workload, load: Load, plan: Plan
) -> RawLevel:
    begin_s = dispatcher.now_s
    ending = _measure(dispatcher, StoppingRule(workload, load, ns_of(begin_s)))
    close_s = dispatcher.now_s
    dispatcher.close(drain=ending.drain and plan.drain, at_ns=ns_of(close_s))
    dispatcher.drain()
    dispatcher.finish(ns_of(dispatcher.now_s))
    return _collect(dispatcher, load, plan, ending, (ns_of(begin_s), ns_of(close_s)))


def _measure(dispatcher: VirtualDispatcher, rule: StoppingRule) -> Ending:
    stats, begin_s = LiveStats(1), dispatcher.now_s
    update_s = begin_s + _UPDATE_S
    while dispatcher.step(update_s):
        now_s = dispatcher.now_s
        if now_s >= update_s:
            stats.add(0, dispatcher.live_update())
            if (ending := rule.ending(stats)) is not None:
                return ending
            update_s = now_s + max(_UPDATE_S, _UPDATE_SHARE * (now_s - begin_s))
    return Ending("")


def _collect(
    dispatcher: VirtualDispatcher,
    load: Load,
    plan: Plan,
    ending: Ending,
    span_ns: tuple[int, int],
) -> RawLevel:
    begin_ns, close_ns = span_ns
    records, over_ns = records_of(dispatcher.ended, load.index), ns_of(dispatcher.now_s)
    sent_ns = np.sort(records.sent_ns[records.sent_ns > 0])
    on_time, idle = np.zeros(len(sent_ns), np.int64), np.zeros(2, np.int64)
    level_ns = np.array([begin_ns, over_ns], np.int64)
    return RawLevel(
        records=records,
        planned_ns=planned_ns(plan, begin_ns),
        series=TimingSeries(on_time, sent_ns, idle, level_ns, idle, level_ns),
        begin_ns=begin_ns,
        close_ns=close_ns,
        over_ns=over_ns,
        ending=ending,
        cpu=((level_ns, idle),),
        resent=0,
        connected=0,
        clock_uncertainty_ns=0,
        gave_up=dispatcher.gave_up,
        stopped=False,
        used=dispatcher.queue.used,
        repeated=dispatcher.queue.repeated,
    )


def records_of(ended: Sequence[VirtualExchange], level: int) -> Records:
    """The columns that a client on the wall clock would return."""
    codes: dict[str, int] = {"": 0}
    error = [codes.setdefault(each.error, len(codes)) for each in ended]
    events = np.array([len(each.times_s) for each in ended], np.int32)
    times_s = np.concatenate([np.zeros(0), *(each.times_s for each in ended)])
    tokens = np.concatenate([np.zeros(0, np.int32), *(each.tokens for each in ended)])
    return Records(
        level=np.full(len(ended), level, np.int32),
        slot=np.array([each.slot for each in ended], np.int32),
        due_ns=np.array([each.due_ns for each in ended], np.int64),
        sent_ns=np.array([each.sent_ns for each in ended], np.int64),
        first_ns=np.array([each.event_ns(0) for each in ended], np.int64),
        last_ns=np.array([each.event_ns(-1) for each in ended], np.int64),
        end_ns=np.array([each.end_ns for each in ended], np.int64),
        input_tokens=np.array([each.input_tokens for each in ended], np.int32),
        output_tokens=np.array([int(each.tokens.sum()) for each in ended], np.int32),
        events=events,
        outcome=np.array([int(each.outcome) for each in ended], np.int8),
        status=np.array([_STATUS.get(each.outcome, 200) for each in ended], np.int16),
        exact_tokens=np.ones(len(ended), np.int8),
        cached_tokens=np.full(len(ended), -1, np.int32),
        error=np.array(error, np.int32),
        errors=tuple(codes),
        doubt=np.zeros(len(ended), np.int32),
        doubts=("",),
        oddity=np.zeros(len(ended), np.int32),
        oddities=("",),
        event_ns=np.rint(times_s * 1e9).astype(np.int64) + ns_of(0.0),
        event_tokens=tokens.astype(np.int32),
        event_offsets=offsets_of(events),
    )
