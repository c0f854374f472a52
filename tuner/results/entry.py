"""What a ledger holds: proposed trials, their results, and which of them measure a trial again."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from tuner.config.groups.space import ENGINE, Point
from tuner.config.trial import TrialConfig
from tuner.trial.result import Failed, TrialResult

TRIALS = "trials"
UNSET = "unset"  # of a setting that a point leaves to the engine
Role = Literal["confirm", "ablation"]  # of lines that measure a trial again


class LedgerError(Exception):
    """The ledger can't be read or written. One line."""


@dataclass(frozen=True, slots=True)
class Repeat:
    """Which trial is measured again (None: a default that the search did not try), in which round from 0.

    `role`: `ablation` measures that trial without some of its changes; `round` then counts these trials.
    """

    of: int | None
    round: int
    role: Role = "confirm"


@dataclass(frozen=True, slots=True)
class Entry:
    """One line: a proposed trial (`result` is None), its result, or a failed attempt at it.

    `repeat`: set if it measures a trial again.
    """

    number: int
    point: Point
    fingerprint: str
    result: TrialResult | None
    folder: Path
    time: datetime
    repeat: Repeat | None = None

    @property
    def knobs(self) -> str:
        """As `knobs` writes the point."""
        return knobs(self.point)

    @property
    def is_default(self) -> bool:
        """Whether the search chose nothing but the engine."""
        return not set(self.point) - {ENGINE}


@dataclass(frozen=True, slots=True)
class Finished(Entry):
    """A line with a result."""

    result: TrialResult

    @property
    def engine(self) -> str:
        """The name of the trial's engine in its study: its kind, or that of a variant."""
        return engine_name(self.point, self.result.config)

    @property
    def modelled(self) -> str:
        """The source of emulated figures; empty for measured ones. Whatever shows modelled figures says so."""
        return str(self.result.provenance.get("modelled") or "")


@dataclass(frozen=True, slots=True)
class Attempt(Entry):
    """A line with a transient failure after which the trial ran again: no result of it."""

    result: Failed


def searched(entries: Iterable[Entry]) -> list[Finished]:
    """The finished trials among the entries, without repeats."""
    return [e for e in entries if isinstance(e, Finished) and e.repeat is None]


def repeated(entries: Iterable[Entry]) -> list[Finished]:
    """The finished repeats among the entries, of any role."""
    return [e for e in entries if isinstance(e, Finished) and e.repeat is not None]


def engine_name(point: Point, config: TrialConfig) -> str:
    """A point names its engine where the study has several."""
    return str(point.get(ENGINE, config.engine.kind))


def knobs(point: Point) -> str:
    """The values that the search chose, without the engine's name: `parallel=4 threads=2`."""
    chosen = (
        f"{knob_name(path)}={_plain(value)}" for path, value in point.items() if path != ENGINE
    )
    return " ".join(chosen) or "as configured"


def knob_name(path: str) -> str:
    """A setting of an engine below its name, such as `speculation.depth`, or of the topology, such as
    `prefill.replicas`; of another group its last part."""
    group, _, rest = path.partition(".")
    if group == "topology" and rest:
        return rest
    return rest.partition(".")[2] if group == ENGINE and "." in rest else path.rsplit(".", 1)[-1]


def trial_folder(study: Path, number: int, fingerprint: str) -> Path:
    """Where the files of a trial lie."""
    return study / TRIALS / f"{number:03d}-{fingerprint}"


def attempt_folder(folder: Path, attempt: int) -> Path:
    """Where the files of a failed attempt lie, from 1, in the folder of its trial."""
    return folder / f"attempt-{attempt}"


def _plain(value: Any) -> str:
    if value is None:
        return UNSET
    if isinstance(value, float):
        return f"{value:.12g}"  # a step of 0.05 gives 0.8500000000000001
    return str(value).lower() if isinstance(value, bool) else str(value)
