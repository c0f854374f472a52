"""One policy on both clocks: what is sent and what ends, and when, is the same."""

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadgen.http.response import Outcome
from tests.fuzz.examples import examples
from tests.loadgen.worker.scripted import (
    Close,
    Event,
    Reply,
    on_virtual_clock,
    on_wall_clock,
    plan,
)

REFUSE = Reply("refuse", 0.001)
LONG = Close(5.0, drain=True)


def both(
    changes: dict[str, Any], script: list[Reply], close: Close = LONG, turns: int = 1
) -> list[Event]:
    """The events, after a check that they are the same on both clocks."""
    virtual, events = on_virtual_clock(plan(**changes), script, close, turns)
    wall, on_wall = on_wall_clock(plan(**changes), script, close, turns)
    assert [(e.slot, e.what) for e in events] == [(e.slot, e.what) for e in on_wall]
    times = [[e.at_s for e in each if e.what != "ABANDONED"] for each in (events, on_wall)]
    assert times[0] == pytest.approx(times[1], abs=1e-6)
    assert virtual.gave_up == wall.gave_up
    assert virtual.queue.used == wall.queue.used
    assert len(virtual.ended) == len({id(each) for each in virtual.ended})
    return events


def times_ms(events: list[Event], what: str, slot: int = 0) -> list[float]:
    return [round(e.at_s * 1e3, 3) for e in events if e.what == what and e.slot == slot]


replies = st.builds(
    Reply,
    st.sampled_from(["answer", "answer", "answer", "refuse", "hang"]),
    st.floats(0.0011, 0.9),
)


limits = st.fixed_dictionaries(
    {
        "max_requests": st.sampled_from([None, 6, 17]),
        "give_up_after": st.sampled_from([2, 9, 1000]),
    }
)
closed_loops = st.fixed_dictionaries({"closed": st.just(True), "starts_ns": st.integers(1, 5)})
open_loops = st.fixed_dictionaries(
    {
        "closed": st.just(False),
        "starts_ns": st.integers(10, 50),
        "max_in_flight": st.sampled_from([None, 1, 3]),
    }
)


SENDS_MAX = 2000  # about; no two of them are answered after the same time


@settings(max_examples=examples(200), deadline=None)
@given(
    st.lists(replies, min_size=1, max_size=12),
    st.one_of(closed_loops, open_loops),
    limits,
    st.builds(Close, st.floats(0.5, 4.0), st.booleans()),
    st.integers(1, 4),
    st.integers(0, 2**31),
)
def test_the_same_script_gives_the_same_events_on_both_clocks(
    script: list[Reply],
    loop: dict[str, Any],
    limits: dict[str, Any],
    close: Close,
    turns: int,
    seed: int,
) -> None:
    random = np.random.default_rng(seed)
    # Another time for each reply: the order of events at one instant is not specified.
    script = [
        Reply(each.kind, round(each.delay_s + random.uniform(0, 1e-3), 9))
        for each in script * (SENDS_MAX // len(script))
    ]
    starts_s = np.cumsum(random.uniform(0.001, 0.05, loop["starts_ns"]))
    starts_ns = (starts_s * 1e9).astype(np.int64)
    close = Close(close.at_s + 0.0123456, close.drain)
    both({**loop, **limits, "starts_ns": starts_ns}, script, close, turns)


ONE_USER = {"starts_ns": np.array([0], np.int64)}


def test_a_user_who_is_refused_backs_off_for_twice_as_long_each_time() -> None:
    events = both({**ONE_USER, "max_requests": 8}, [REFUSE])
    sent_ms = times_ms(events, "sent")
    pauses = [round(b - a - 1) for a, b in pairwise(sent_ms)]
    assert pauses == [50, 100, 200, 400, 500, 500, 500]


def test_an_answer_ends_the_back_off() -> None:
    script = [REFUSE, REFUSE, Reply("answer", 0.01), REFUSE, Reply("answer", 0.01)]
    events = both({**ONE_USER, "max_requests": 5}, script)
    assert times_ms(events, "sent") == [0, 51, 152, 162, 213]
    assert [e.what for e in events[5:]] == [
        "refused",
        "refused",
        "completed",
        "refused",
        "completed",
    ]


def test_failures_in_a_row_end_the_level_and_abandon_the_rest() -> None:
    starts_ns = np.arange(6, dtype=np.int64) * 10_000_000
    script = [Reply("hang", 0.0), Reply("answer", 0.005), *4 * [REFUSE]]
    changes = {"closed": False, "starts_ns": starts_ns, "give_up_after": 3}
    events = both(changes, script)
    assert [(e.slot, e.what) for e in events if e.what != "sent"] == [
        (1, "completed"),
        (2, "refused"),
        (3, "refused"),
        (4, "refused"),
        (0, "ABANDONED"),
    ]
    assert times_ms(events, "sent", slot=5) == []


def test_many_users_may_fail_in_a_row() -> None:
    """Twice the users are allowed to: the back-off must not overflow."""
    users = 700
    starts_ns = np.arange(users, dtype=np.int64)
    changes = {"starts_ns": starts_ns, "give_up_after": 2 * users}
    dispatcher, _ = on_virtual_clock(plan(**changes), [REFUSE], LONG)
    assert dispatcher.gave_up
    assert len(dispatcher.ended) == 2 * users


def test_a_time_out_frees_its_place_at_the_next_sweep() -> None:
    starts_ns = np.array([0, 20_000_000, 500_000_000], np.int64)
    script = [Reply("hang", 0.0), Reply("answer", 0.01)]
    changes = {"closed": False, "starts_ns": starts_ns, "max_in_flight": 1}
    events = both(changes, script)
    assert times_ms(events, "TIMED_OUT", slot=0) == [1100]
    assert times_ms(events, "TIMED_OUT", slot=1) == [1100], "it was never sent"
    assert times_ms(events, "completed", slot=2) == [1110]


def test_requests_that_time_out_unsent_free_no_place() -> None:
    starts_ns = np.arange(40, dtype=np.int64) * 10_000_000
    changes = {"closed": False, "starts_ns": starts_ns, "max_in_flight": 4}
    events = both(changes, [Reply("hang", 0.0)])
    in_flight, most = set[int](), 0
    for event in sorted(events, key=lambda event: (event.at_s, event.what == "sent")):
        if event.what == "sent":
            in_flight.add(event.slot)
        else:
            in_flight.discard(event.slot)
        most = max(most, len(in_flight))
    assert most == 4


def test_a_drain_waits_for_answers_and_for_time_outs_but_sends_nothing_new() -> None:
    script = [Reply("answer", 0.3), Reply("hang", 0.0)]
    events = both({}, script, Close(0.2, drain=True))
    assert [(e.slot, e.what) for e in events] == [
        (0, "sent"),
        (1, "sent"),
        (0, "completed"),
        (1, "TIMED_OUT"),
    ]
    events = both({}, script, Close(0.2, drain=False))
    assert [e.what for e in events] == ["sent", "sent", "ABANDONED", "ABANDONED"]


def test_what_was_never_sent_has_no_time_of_sending() -> None:
    starts_ns = np.array([0, 1_000_000], np.int64)
    changes = {"closed": False, "starts_ns": starts_ns, "max_in_flight": 1}
    dispatcher, events = on_virtual_clock(
        plan(**changes), [Reply("hang", 0.0)], Close(0.5, drain=False)
    )
    assert [each.outcome for each in dispatcher.ended] == [Outcome.ABANDONED] * 2
    assert [each.sent_ns for each in dispatcher.ended] == [10**9, 0]
    assert not any(math.isnan(e.at_s) for e in events)


def test_turns_of_a_conversation_follow_their_answer_or_its_think_time() -> None:
    events = both({**ONE_USER, "max_requests": 1}, [Reply("answer", 0.1)], turns=4)
    assert times_ms(events, "sent") == [0, 130.1, 230.1, 360.2]
