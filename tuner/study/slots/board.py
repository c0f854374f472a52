"""What the slots report while they run, and which of them are silent. No result passes through here. Pure."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from math import inf
from typing import Any

from loadgen import Progress


@dataclass(frozen=True, slots=True)
class Beat:
    """A slot's report, every few seconds. `trial`: None between trials. `slot`: the handle of its actor.
    `waits`: what the trial has waited for, for long; empty if for nothing.
    """

    count: int
    trial: int | None
    progress: Progress | None
    slot: Any = None
    waits: str = ""


class Board:
    """An actor that holds each slot's last report. Ray restarts it if it dies, and it fills again."""

    def __init__(self) -> None:
        self._beats: dict[str, Beat] = {}

    def beat(self, name: str, beat: Beat) -> None:
        """A slot reports."""
        self._beats[name] = beat

    def leave(self, name: str) -> None:
        """A slot ends in order."""
        self._beats.pop(name, None)

    def beats(self) -> dict[str, Beat]:
        """Slot → its last report."""
        return self._beats


@dataclass(frozen=True, slots=True)
class Heard:
    """A slot's last report, and when the driver first saw it."""

    beat: Beat
    at_s: float


Slots = Mapping[str, Heard]


def heard(before: Slots, beats: Mapping[str, Beat], now_s: float) -> dict[str, Heard]:
    """The slots after the driver has read the board. One that is missing there stays as it was.

    A board that was restarted is empty: that says nothing of a slot. One that left is dropped once it is
    silent for long enough to count as dead.
    """
    now = dict(before)
    for name, beat in beats.items():
        if name not in now or now[name].beat.count != beat.count:
            now[name] = Heard(beat, now_s)
    return now


def without(beats: Mapping[str, Beat], dead: Collection[str]) -> dict[str, Beat]:
    """The reports of slots that were not killed: the board keeps the last report of those."""
    return {name: beat for name, beat in beats.items() if name not in dead}


def unread(before: Slots, lost_s: float) -> dict[str, Heard]:
    """The slots after a time in which the board could not be read, which is no slot's fault."""
    return {name: replace(each, at_s=each.at_s + lost_s) for name, each in before.items()}


def silent(slots: Slots, now_s: float, for_s: float) -> dict[str, Heard]:
    """The slots that were not heard for so long."""
    return {name: each for name, each in slots.items() if now_s - each.at_s >= for_s}


def active(slots: Slots, asked_at_s: Mapping[int, float]) -> dict[int, Heard]:
    """Running trial → its slot. One last heard before its trial was asked for ran an earlier attempt."""
    return {
        each.beat.trial: each
        for each in slots.values()
        if each.beat.trial is not None and asked_at_s.get(each.beat.trial, inf) <= each.at_s
    }
