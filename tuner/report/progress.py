"""Shows the progress of a study: live on a terminal, line by line elsewhere."""

import re
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
from tuner.metrics.notation import number
from tuner.report.console import say
from tuner.results.ledger import Finished, engine_name, knobs
from tuner.results.tiers import Winner, best_per_tier, utility
from tuner.search import Proposal
from tuner.search.retries import MAX_RETRIES
from tuner.trial.result import VIRTUAL, Completed, Failed, TrialResult, host_of

POLL_S = 0.5
SAY_EVERY_S = 60.0
_DIGITS = re.compile(r"\d+")


class Display:
    """An observer of a study; as a context manager it shows the live display."""

    def __init__(self, config: StudyConfig, slots: int, console: Console | None = None) -> None:
        self._config, self._slots = config, max(slots, 1)
        self._console = console or Console()
        self._terminal = self._console.is_terminal and not self._console.is_dumb_terminal
        self._began = time.monotonic()
        self._running: dict[int, tuple[Proposal, float]] = {}
        self._progress: dict[int, Progress | None] = {}
        self._walls_s: list[float] = []
        self._done = self._failed = self._pruned = 0
        self._best: dict[str, tuple[float, float, int]] = {}  # utility, value, trial
        self._note = self._wait = ""
        self._waited_at = 0.0
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
        """Polls `progress` (trial → where it is) from a thread until the display ends."""

        def poll() -> None:
            while not self._stop.wait(POLL_S):
                self._progress = progress()

        self._poller = threading.Thread(target=poll, daemon=True, name="display")
        self._poller.start()

    def already(self, earlier: Sequence[Finished]) -> None:
        """Counts the trials of an earlier run of the same study."""
        for entry in earlier:
            self._count(entry.number, entry.result)

    def started(self, proposal: Proposal) -> None:
        """A trial was started."""
        self._running[proposal.number] = (proposal, time.monotonic())
        if not self._terminal:
            which = self._which(proposal)
            clock, name = _clock(time.monotonic() - self._began), self._name(proposal)
            head = f"[{clock}] {which}: #{proposal.number} {name}"
            line = [head, self._left(), self._best_so_far()]
            say(self._console, "  ".join(filter(None, line)), whole=True)

    def finished(self, proposal: Proposal, result: TrialResult, folder: Path) -> None:
        """A trial ended: prints its summary, or why it failed."""
        _, began = self._running.pop(proposal.number, (proposal, time.monotonic()))
        self._progress.pop(proposal.number, None)
        gains = self._count(proposal.number, result, repeat=isinstance(proposal, RepeatProposal))
        if result.provenance.get("clock") == VIRTUAL:
            self._walls_s[-1] = time.monotonic() - began
        line = Text(f"#{proposal.number:<3}", style="bold")
        if isinstance(result, Completed):
            mark, style = ("○ ", "yellow") if result.pruned else ("✓ ", "green")
            line.append(mark, style=style).append(self._name(proposal))
            line.append(f"  {_summary(result)}", style="cyan")
            if gains:
                line.append(f"  new best: {', '.join(gains)}", style="bold green")
        else:
            line.append("✗ ", style="red").append(self._name(proposal))
            line.append(f"  {result.failure}: {result.evidence}", style="red")
        say(self._console, line, whole=not self._terminal)

    def retried(self, proposal: Proposal, result: TrialResult, attempt: int) -> None:
        """A trial failed for a reason that is not its own."""
        self._running.pop(proposal.number, None)
        assert isinstance(result, Failed)
        line = Text(f"#{proposal.number:<3}", style="bold").append("↻ ", style="yellow")
        line.append(self._name(proposal))
        where = f" (failed on node {host})" if (host := host_of(result)) else ""
        why = f"  {result.failure}: {result.evidence}; retry {attempt} of {MAX_RETRIES}{where}"
        say(self._console, line.append(why, style="yellow"), whole=not self._terminal)

    def waiting(self, note: str) -> None:
        """Shows what the study waits for; empty: nothing. Where nothing is redrawn, each wait once a minute."""
        before, self._wait = self._wait, note
        changed = _DIGITS.sub("", before) != _DIGITS.sub("", note)
        due = changed or time.monotonic() - self._waited_at >= SAY_EVERY_S
        if note and due and not self._terminal:
            self._waited_at = time.monotonic()
            say(self._console, note, whole=True)

    def closing(self) -> None:
        """The study is being stopped."""
        self._show_note("stopping: running trials are finished and saved; Ctrl-C again stops now")

    def ended(self, why: str) -> None:
        """The search ended early."""
        self._show_note(f"search ended: {why}")

    def _show_note(self, note: str) -> None:
        self._note = note
        if not self._terminal:
            say(self._console, note, whole=True)

    def _count(self, trial: int, result: TrialResult, *, repeat: bool = False) -> list[str]:
        """The tiers of which this trial is now the best; a repeat counts for none."""
        self._walls_s.append(result.timings.wall_s)
        if repeat:
            return []
        self._done += 1
        if not isinstance(result, Completed):
            self._failed += 1
            return []
        self._pruned += bool(result.pruned)
        objective, gains = self._config.objective, []
        for tier, best in best_per_tier(self._config.slo, objective, [result]).items():
            if isinstance(best, Winner):
                good = utility(objective.target, best.value)
                if tier not in self._best or good > self._best[tier][0]:
                    self._best[tier] = good, best.value, trial
                    gains.append(tier)
        return gains

    def _name(self, proposal: Proposal) -> str:
        repeat = f"{_role(proposal)}: " if isinstance(proposal, RepeatProposal) else ""
        return f"{repeat}{engine_name(proposal.point, proposal.config)} {knobs(proposal.point)}"

    def _which(self, proposal: Proposal) -> str:
        if not isinstance(proposal, RepeatProposal):
            return f"trial {proposal.number + 1} of {self._config.search.trials}"
        if proposal.repeat.role == "ablation":
            return "the fewest changes"
        most = self._config.search.confirm.repeats_max
        return f"round {proposal.repeat.round + 1} of at most {most}"

    def _left(self) -> str:
        if not self._walls_s:
            return "time left: known after the first trial"
        left = self._config.search.trials - self._done
        if any(isinstance(proposal, RepeatProposal) for proposal, _ in self._running.values()):
            return "ends once the best is decided"
        mean_s = sum(self._walls_s) / len(self._walls_s)
        now_s, running = time.monotonic(), list(self._running.values())
        running_s = sum(min(now_s - began, mean_s) for _, began in running)
        return f"about {_clock(max(left * mean_s - running_s, 0) / self._slots)} left"

    def _best_so_far(self) -> str:
        best = [
            f"{tier} {number(value)} (#{n})" for tier, (_, value, n) in list(self._best.items())
        ]
        return f"best so far ({self._config.objective.metric}): {'  '.join(best)}" if best else ""

    def _render(self) -> RenderableType:
        total = self._config.search.trials
        running = [proposal for proposal, _ in list(self._running.values())]
        repeats = [proposal for proposal in running if isinstance(proposal, RepeatProposal)]
        at = min(self._done + len(running), total)
        head = Text.assemble(
            (f"{self._config.name}  ", "bold"),
            self._which(repeats[0]) if repeats else f"trial {at} of {total}",
            f"  ·  {_clock(time.monotonic() - self._began)} elapsed, {self._left()}",
            (f"  ·  {self._failed} failed" if self._failed else "", "red"),
            (f"  ·  {self._pruned} pruned" if self._pruned else "", "yellow"),
        )
        rows: list[RenderableType] = [
            ProgressBar(total=total, completed=self._done, width=40),
            head,
        ]
        if best := self._best_so_far():
            rows.append(Text(best))
        grid = Table.grid(padding=(0, 2))
        for trial, (proposal, began) in list(self._running.items()):
            name, phase = self._name(proposal), self._phase(trial, began)
            grid.add_row(f"#{trial}", Text(name), Text(phase))
        rows.append(grid)
        rows += [Text(each, style="yellow") for each in (self._note, self._wait) if each]
        return Group(*rows)

    def _phase(self, trial: int, began: float) -> str:
        progress: Any = self._progress.get(trial)
        if progress is None:
            return f"starting, {time.monotonic() - began:.0f} s"
        found = isinstance(self._config.workload.arrival, Adaptive)
        levels = f"{'up to ' if found else ''}{progress.levels}"
        return (
            f"level {progress.level + 1} of {levels} ({progress.load}), {progress.phase}, "
            f"{progress.completed} requests, {progress.elapsed_s:.0f} of {progress.expected_s:.0f} s"
        )


def _role(proposal: RepeatProposal) -> str:
    return "repeat" if proposal.repeat.role == "confirm" else "ablation"


def _summary(result: Completed) -> str:
    valid = [point for point in result.points if point.valid]
    took = f"{number(result.timings.wall_s)} s"
    if result.pruned:
        took = f"pruned {result.pruned}, {took}"
    if result.quality is not None and result.quality.rejected:
        return f"rejected: {result.quality.why}, {took}"
    if not valid:
        why = result.points[0].invalid_because if result.points else ("there is no level",)
        return f"no valid level ({why[0]}), {took}"
    rate = max(p.metrics.get("throughput_output_tok_s_device") or 0.0 for p in valid)
    user = max(p.metrics.get("interactivity_tok_s_user") or 0.0 for p in valid)
    device = result.config.hardware.device
    return f"up to {number(rate)} tok/s/{device}, {number(user)} tok/s/user, {took}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
