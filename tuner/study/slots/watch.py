"""Watches a running study from a thread: ends slots that are silent, and the study if the cluster is."""

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol, Self

import ray
from ray.exceptions import RayError

from loadgen import Progress
from tuner.study.slots.board import Heard, active, heard, silent, unread, without

LOOK_S = 1.0
READ_S = 5.0
SAY_AFTER_S = 15.0
PLACE_S = 900.0  # a cluster that grows on demand takes minutes for a node
GCS = "the Ray cluster's control service (GCS)"


class Screen(Protocol):
    """Where the state of a study is shown."""

    def watch(self, progress: Callable[[], dict[int, Progress | None]]) -> None:
        """Takes the function that returns the progress of the running trials."""

    def waiting(self, note: str) -> None:
        """Shows what the study waits for; empty: nothing unusual."""


class Watch:
    """A context manager. `board`: the actor. `running`: trial → when it was asked for, on the monotonic clock.
    `abort` ends the study with a reason. `place_s`: how long a trial may wait for a slot to start. `held`: what
    a trial waits for that has no devices yet; empty: none waits.

    A slot that reports nothing for `dead_after_s` is killed: its trial fails, and another slot tries it again.
    A board that can't be read for so long is killed too, which restarts it.
    """

    def __init__(
        self,
        board: Any,
        running: Mapping[int, float],
        screen: Screen,
        dead_after_s: float,
        abort: Callable[[str], None],
        place_s: float = PLACE_S,
        held: Callable[[], str] = lambda: "",
    ) -> None:
        self._board, self._running, self._screen, self._abort = board, running, screen, abort
        self._dead_after_s, self._place_s, self._held = dead_after_s, place_s, held
        self._slots: dict[str, Heard] = {}
        self._dead: set[str] = set()
        now = time.monotonic()
        self._looked_s = self._read_s = self._answered_s = now
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="watch")

    def __enter__(self) -> Self:
        self._thread.start()
        self._screen.watch(self.progress)
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(2 * READ_S + LOOK_S)

    def progress(self) -> dict[int, Progress | None]:
        """Running trial → where it is, as last reported."""
        running = active(self._slots, dict(self._running))
        return {number: each.beat.progress for number, each in running.items()}

    def _run(self) -> None:
        while not self._ended.wait(LOOK_S):
            self._look_at_slots()
            self._look_at_cluster()
            now = time.monotonic()
            if self._ended.is_set():
                return
            if why := self._over(now):
                self._abort(why)
                return
            self._screen.waiting(self._note(now))

    def _look_at_slots(self) -> None:
        beats = None
        with contextlib.suppress(RayError):
            beats = ray.get(self._board.beats.remote(), timeout=READ_S)
        now = time.monotonic()
        if beats is None:
            self._slots = unread(self._slots, now - self._looked_s)
            if now - self._read_s >= self._dead_after_s:
                self._read_s = now
                _kill(self._board, restart=True)
        else:
            self._slots = heard(self._slots, without(beats, self._dead), now)
            self._read_s = now
        self._looked_s = now
        for name, each in silent(self._slots, now, self._dead_after_s).items():
            self._slots.pop(name)
            self._dead.add(name)
            _kill(each.beat.slot)

    def _look_at_cluster(self) -> None:
        """No public function of Ray asks its control service with a time-out."""
        from ray._private import worker

        state: Any = worker.global_worker
        with contextlib.suppress(RayError):
            state.gcs_client.check_alive([], timeout=READ_S)
            self._answered_s = time.monotonic()

    def _over(self, now: float) -> str:
        """Why the study can't go on; empty if it can."""
        if (waited_s := now - self._answered_s) >= self._dead_after_s:
            return f"{GCS} has not answered for {waited_s:.0f} s"
        number, waited_s = self._unplaced(now)
        if waited_s >= self._place_s:
            return f"trial {number} found no free worker on the cluster within {waited_s:.0f} s"
        return ""

    def _unplaced(self, now: float) -> tuple[int, float]:
        """The trial that has waited longest for a slot, and how long; 0 s while any trial runs in one.

        Without the board nobody knows.
        """
        asked = dict(self._running)
        if not asked or active(self._slots, asked) or now - self._read_s > 2 * READ_S:
            return 0, 0.0
        number = min(asked, key=lambda each: asked[each])
        return number, now - asked[number]

    def _note(self, now: float) -> str:
        notes = [held] if (held := self._held()) else []
        if (waited_s := now - self._answered_s) >= SAY_AFTER_S:
            notes.append(
                f"{GCS} has not answered for {waited_s:.0f} s; "
                f"the study stops after {self._dead_after_s:.0f} s"
            )
        number, waited_s = self._unplaced(now)
        if waited_s >= SAY_AFTER_S:
            notes.append(
                f"trial {number} has waited {waited_s:.0f} s for a free worker; "
                f"the study stops after {self._place_s:.0f} s"
            )
        for number, each in active(self._slots, dict(self._running)).items():
            if (waited_s := now - each.at_s) >= SAY_AFTER_S:
                notes.append(
                    f"the worker of trial {number} has not answered for {waited_s:.0f} s; "
                    f"it is killed after {self._dead_after_s:.0f} s"
                )
            elif each.beat.waits:
                notes.append(f"trial {number} has waited {each.beat.waits}")
        return "; ".join(notes)


def _kill(actor: Any, *, restart: bool = False) -> None:
    with contextlib.suppress(RayError, ValueError):
        ray.kill(actor, no_restart=not restart)
