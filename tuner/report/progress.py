"""What a person sees while a study runs: live on a terminal, line by line elsewhere."""

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from loadgen import Adaptive, Progress
from tuner.config.study import StudyConfig
from tuner.confirm.repeat import RepeatProposal
from tuner.results.ledger import Finished, knobs
from tuner.results.tiers import Winner, best_per_tier, worth
from tuner.search import Proposal
from tuner.trial.result import VIRTUAL, Completed, TrialResult

POLL_S = 0.5


class Display:
    """An observer of a study, and a context manager around it."""

    def __init__(self, config: StudyConfig, slots: int, console: Console | None = None) -> None:
        self._config, self._slots = config, max(slots, 1)
        self._console = console or Console()
        self._terminal = self._console.is_terminal and not self._console.is_dumb_terminal
        self._began = time.monotonic()
        self._running: dict[int, tuple[Proposal, float]] = {}
        self._progress: dict[int, Progress | None] = {}
        self._walls_s: list[float] = []
        self._done = self._failed = self._given_up = 0
        self._best: dict[str, tuple[float, float, int]] = {}  # worth, value, trial
        self._note = ""
        self._stop = threading.Event()
        self._poller: threading.Thread | None = None
        self._live = Live(console=self._console, get_renderable=self._render, refresh_per_second=2)

    def __enter__(self) -> "Display":
        if self._terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._poller is not None:
            self._poller.join(timeout=2 * POLL_S)
        if self._live.is_started:
            self._live.stop()

    def watch(self, progress: Callable[[], dict[int, Progress | None]]) -> None:
        """Polls `progress` from a thread of its own until the display ends."""

        def poll() -> None:
            while not self._stop.wait(POLL_S):
                self._progress = progress()

        self._poller = threading.Thread(target=poll, daemon=True, name="display")
        self._poller.start()

    def already(self, earlier: Sequence[Finished]) -> None:
        """Trials of an earlier run of the same study."""
        for entry in earlier:
            self._count(entry.number, entry.result)

    def started(self, proposal: Proposal) -> None:
        self._running[proposal.number] = (proposal, time.monotonic())
        if not self._terminal:
            which = self._which(proposal)
            clock, name = _clock(time.monotonic() - self._began), self._name(proposal)
            head = f"[{clock}] {which}: #{proposal.number} {name}"
            said = [head, self._left(), self._best_so_far()]
            self._console.print(Text("  ".join(filter(None, said))), soft_wrap=True)

    def finished(self, proposal: Proposal, result: TrialResult, folder: Path) -> None:
        _, began = self._running.pop(proposal.number, (proposal, time.monotonic()))
        self._progress.pop(proposal.number, None)
        gains = self._count(proposal.number, result, again=isinstance(proposal, RepeatProposal))
        if result.provenance.get("clock") == VIRTUAL:
            self._walls_s[-1] = time.monotonic() - began
        line = Text(f"#{proposal.number:<3}", style="bold")
        if isinstance(result, Completed):
            mark, style = ("○ ", "yellow") if result.given_up else ("✓ ", "green")
            line.append(mark, style=style).append(self._name(proposal))
            line.append(f"  {_summary(result)}", style="cyan")
            if gains:
                line.append(f"  new best: {', '.join(gains)}", style="bold green")
        else:
            line.append("✗ ", style="red").append(self._name(proposal))
            line.append(f"  {result.failure}: {result.evidence}", style="red")
        self._console.print(line, soft_wrap=not self._terminal)

    def closing(self) -> None:
        self._note = "stopping: what runs is finished and saved; Ctrl-C again stops now"
        if not self._terminal:
            self._console.print(self._note)

    def ended(self, why: str) -> None:
        self._note = f"the search is over: {why}"
        if not self._terminal:
            self._console.print(Text(self._note), soft_wrap=True)

    def _count(self, number: int, result: TrialResult, *, again: bool = False) -> list[str]:
        """The tiers of which this trial is the best so far; a repeat of one is none that competes."""
        self._walls_s.append(result.timings.wall_s)
        if again:
            return []
        self._done += 1
        if not isinstance(result, Completed):
            self._failed += 1
            return []
        self._given_up += bool(result.given_up)
        objective, gains = self._config.objective, []
        for tier, best in best_per_tier(self._config.slo, objective, [result]).items():
            if isinstance(best, Winner):
                good = worth(objective.sold, best.throughput)
                if tier not in self._best or good > self._best[tier][0]:
                    self._best[tier] = good, best.throughput, number
                    gains.append(tier)
        return gains

    def _name(self, proposal: Proposal) -> str:
        again = "again: " if isinstance(proposal, RepeatProposal) else ""
        return f"{again}{proposal.config.engine.kind} {knobs(proposal.point)}"

    def _which(self, proposal: Proposal) -> str:
        if not isinstance(proposal, RepeatProposal):
            return f"trial {proposal.number + 1} of {self._config.search.trials}"
        return f"round {proposal.repeat.round + 1} of {self._config.search.confirm.repeats_max} at most"

    def _left(self) -> str:
        if not self._walls_s:
            return "time left: known after the first trial"
        left = self._config.search.trials - self._done
        if any(isinstance(proposal, RepeatProposal) for proposal, _ in self._running.values()):
            return "until the best is known"
        mean_s = sum(self._walls_s) / len(self._walls_s)
        now_s, running = time.monotonic(), list(self._running.values())
        running_s = sum(min(now_s - began, mean_s) for _, began in running)
        return f"about {_clock(max(left * mean_s - running_s, 0) / self._slots)} left"

    def _best_so_far(self) -> str:
        best = [
            f"{tier} {_short(value)} (#{n})" for tier, (_, value, n) in list(self._best.items())
        ]
        said = f"best so far ({self._config.objective.throughput}): {'  '.join(best)}"
        return said if best else ""

    def _render(self) -> RenderableType:
        total = self._config.search.trials
        running = [proposal for proposal, _ in list(self._running.values())]
        again = [proposal for proposal in running if isinstance(proposal, RepeatProposal)]
        at = min(self._done + len(running), total)
        head = Text.assemble(
            (f"{self._config.name}  ", "bold"),
            self._which(again[0]) if again else f"trial {at} of {total}",
            f"  ·  {_clock(time.monotonic() - self._began)} gone, {self._left()}",
            (f"  ·  {self._failed} failed" if self._failed else "", "red"),
            (f"  ·  {self._given_up} given up" if self._given_up else "", "yellow"),
        )
        rows: list[RenderableType] = [
            ProgressBar(total=total, completed=self._done, width=40),
            head,
        ]
        if best := self._best_so_far():
            rows.append(Text(best))
        grid = Table.grid(padding=(0, 2))
        for number, (proposal, began) in list(self._running.items()):
            name, phase = self._name(proposal), self._phase(number, began)
            grid.add_row(f"#{number}", Text(name), Text(phase))
        rows.append(grid)
        if self._note:
            rows.append(Text(self._note, style="yellow"))
        return Group(*rows)

    def _phase(self, number: int, began: float) -> str:
        progress: Any = self._progress.get(number)
        if progress is None:
            return f"starting, {time.monotonic() - began:.0f} s"
        found = isinstance(self._config.workload.arrival, Adaptive)
        levels = f"{'up to ' if found else ''}{progress.levels}"
        return (
            f"level {progress.level + 1} of {levels} ({progress.load}), {progress.phase}, "
            f"{progress.completed} requests, {progress.elapsed_s:.0f} of {progress.expected_s:.0f} s"
        )


def _summary(result: Completed) -> str:
    valid = [point for point in result.points if point.valid]
    took = f"{result.timings.wall_s:.0f} s"
    if result.given_up:
        took = f"given up {result.given_up}, {took}"
    if not valid:
        why = result.points[0].invalid_because if result.points else ("no level was measured",)
        return f"nothing valid ({why[0]}), {took}"
    rate = max(p.metrics.get("throughput_output_tok_s_device") or 0.0 for p in valid)
    user = max(p.metrics.get("interactivity_tok_s_user") or 0.0 for p in valid)
    return f"up to {rate:.1f} tok/s, {user:.1f} tok/s/user, {took}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _short(value: float) -> str:
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"
