"""What the driver concludes from the reports of slots: who runs what, and who is silent."""

from loadgen import Progress
from tuner.study.slots.board import Beat, Board, Heard, active, heard, silent, unread, without

HALF = Progress(0, 2, "closed 1", "measure", 10, 5.0, 10.0)


def test_a_slot_is_heard_when_its_count_changes() -> None:
    slots = heard({}, {"a": Beat(1, 0, None)}, 10.0)
    slots = heard(slots, {"a": Beat(1, 0, None)}, 20.0)
    assert slots["a"].at_s == 10.0
    assert heard(slots, {"a": Beat(2, 0, None)}, 30.0)["a"].at_s == 30.0


def test_a_board_that_was_restarted_or_can_not_be_read_is_no_slot_s_fault() -> None:
    slots = heard({}, {"a": Beat(7, 0, None)}, 10.0)
    assert heard(slots, {}, 20.0) == slots
    assert unread(slots, 60.0)["a"].at_s == 70.0
    assert not silent(unread(slots, 60.0), 75.0, 10.0)


def test_a_slot_is_silent_after_so_long() -> None:
    slots = {"a": Heard(Beat(1, 0, None), 10.0), "b": Heard(Beat(1, 1, None), 18.0)}
    assert silent(slots, 20.0, 10.0).keys() == {"a"}
    assert not silent(slots, 19.9, 10.0)


def test_a_killed_slot_does_not_come_back_by_its_last_report() -> None:
    beats = {"a": Beat(1, 0, None), "b": Beat(1, 1, None)}
    assert without(beats, {"a"}).keys() == {"b"}


def test_progress_is_that_of_the_slot_which_runs_the_trial_now() -> None:
    """A slot that died during an earlier attempt is on the board still."""
    slots = {
        "dead": Heard(Beat(9, 3, None), 10.0),
        "now": Heard(Beat(2, 3, HALF), 31.0),
        "idle": Heard(Beat(5, None, None), 31.0),
        "over": Heard(Beat(5, 2, None), 31.0),
    }
    assert active(slots, {3: 30.0}) == {3: slots["now"]}
    assert active({"dead": slots["dead"]}, {3: 30.0}) == {}


def test_the_board_holds_the_last_report_of_each_slot_that_has_not_left() -> None:
    board = Board()
    board.beat("a", Beat(1, 0, None))
    board.beat("a", Beat(2, 0, HALF))
    board.beat("b", Beat(1, 1, None))
    board.leave("b")
    board.leave("c")
    assert board.beats() == {"a": Beat(2, 0, HALF)}
