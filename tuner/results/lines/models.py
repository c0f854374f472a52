"""The lines of a ledger as they are written: strict models of outside data. Pure.

Format 2. What all results share stands once in a line of status `base`; a result names its base and holds what
differs from it. Base lines are repeated, and their id is a hash of their content: no single line is needed.
Ledgers of 0.1.0 (format 1) have no header, and whole configurations and names in each result.
"""

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, FiniteFloat, TypeAdapter

from tuner.config.groups.space import Value
from tuner.results.entry import Role
from tuner.trial.quality.verdict import Kind, QualityVerdict, TaskDifference

FORMAT = 2
ENDED = "ended"  # the status of the line that says why a search stopped early
ATTEMPT = "attempt"  # the status of a failure after which the trial ran again

Number = Annotated[int, Field(ge=0, le=10_000_000)]
Share = Annotated[FiniteFloat, Field(ge=0, le=1)]
Fingerprint = Annotated[str, Field(pattern="^[0-9a-f]{16}$")]
BaseId = Annotated[str, Field(pattern="^[0-9a-f]{8}$")]
Values = (
    list[float | None] | dict[str, float | None]
)  # in the order of the base's names, or by name
# From a list, which JSON has: text, metrics, points.
Reason = Annotated[tuple[str, list[Number | str], list[Number]], Field(strict=False)]


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class HeaderLine(_Line):
    """The first line."""

    status: Literal["header"] = "header"
    format: Annotated[int, Field(ge=2)]
    wattfront: str
    time: AwareDatetime


class BaseLine(_Line):
    """What results share: a configuration, a provenance, and the names of metrics and predictions in order."""

    status: Literal["base"] = "base"
    id: BaseId
    config: dict[str, Any]
    provenance: dict[str, Any]
    metrics: list[str]
    predicted: list[str]


class AskedLine(_Line):
    """A proposed trial."""

    status: Literal["asked"] = "asked"
    number: Number
    fingerprint: Fingerprint
    time: AwareDatetime
    point: dict[str, Value]
    role: Role | None = None
    of: Number | None = None
    round: Number | None = None


class ResultLine(_Line):
    """A finished trial, or a failed attempt. `result`: a `PackedResult`, or what format 1 had there."""

    status: Literal["completed", "failed", "attempt"]
    number: Number
    fingerprint: Fingerprint
    time: AwareDatetime
    point: dict[str, Value]
    role: Role | None = None
    of: Number | None = None
    round: Number | None = None
    result: dict[str, Any]


class EndedLine(_Line):
    """Why the search stopped before its last trial."""

    status: Literal["ended"] = "ended"
    time: AwareDatetime
    why: str


class LimitLine(_Line):
    """From the search's proposal `since` on, only layouts that so many GPUs or CPU cores hold were proposed."""

    status: Literal["limit"] = "limit"
    time: AwareDatetime
    since: int = Field(ge=0)
    gpus: int = Field(ge=0)
    cpus: int = Field(ge=0)


class TaskLine(_Line):
    """The fields of a `TaskDifference`."""

    task: str
    metric: str
    documents: Number
    reference: Share
    score: Share
    low: Annotated[FiniteFloat, Field(ge=-1, le=1)]
    high: Annotated[FiniteFloat, Field(ge=-1, le=1)]


class QualityLine(_Line):
    """What the answers of a finished trial are worth: the fields of a `QualityVerdict`."""

    status: Literal["quality"] = "quality"
    number: Number
    time: AwareDatetime
    kind: Kind
    reference: Number | None = None
    why: str = ""
    positions: Number = 0
    disagreement: Share = 0.0
    low: Share = 0.0
    high: Share = 1.0
    own: Share = 0.0
    repeat: Share = 0.0
    drift_nats: FiniteFloat | None = None
    own_drift_nats: FiniteFloat | None = None
    margin_nats: FiniteFloat | None = None
    tasks: Annotated[tuple[TaskLine, ...], Field(strict=False)] = ()

    def verdict(self) -> QualityVerdict:
        """Without trial and time."""
        tasks = tuple(TaskDifference(**each.model_dump()) for each in self.tasks)
        own = self.model_dump(exclude={"status", "number", "time", "tasks"})
        return QualityVerdict(**own, tasks=tasks)


class CompleteLine(_Line):
    """The study ran to its end."""

    status: Literal["complete"] = "complete"
    time: AwareDatetime


AnyLine = (
    HeaderLine
    | BaseLine
    | AskedLine
    | ResultLine
    | QualityLine
    | EndedLine
    | LimitLine
    | CompleteLine
)
LINE: TypeAdapter[AnyLine] = TypeAdapter(Annotated[AnyLine, Field(discriminator="status")])


class PackedPoint(_Line):
    """An operating point; its reasons stand with the result."""

    level: Number
    load: str
    load_value: FiniteFloat | None = None
    metrics: Values
    predicted: Values = Field(default_factory=list)
    invalid_because: list[str] = Field(default_factory=list)


class PackedTimings(_Line):
    """Seconds."""

    wall_s: Annotated[FiniteFloat, Field(ge=0)]
    startup_s: Annotated[FiniteFloat, Field(ge=0)]
    load_s: Annotated[FiniteFloat, Field(ge=0)]
    weight_load_s: Annotated[FiniteFloat, Field(ge=0)] | None = None
    engine_warmup_s: Annotated[FiniteFloat, Field(ge=0)] | None = None
    answers_s: Annotated[FiniteFloat, Field(ge=0)] | None = None


class PackedResult(_Line):
    """A result, without what its base and its point hold. `config`, `provenance`: JSON pointer → value.

    `reasons`: text, metrics (places in the base's names, or names), places in `points` (none: all of them).
    """

    base: BaseId
    config: dict[str, Any]
    provenance: dict[str, Any]
    timings: PackedTimings
    command: str = ""
    points: list[PackedPoint] = Field(default_factory=list)
    reasons: list[Reason] = Field(default_factory=list)
    cut_short: str = ""
    pruned: str = ""
    failure: str = ""
    evidence: str = ""
    phase: str = ""
    remedy: str = ""


def base_line(
    config: dict[str, Any], provenance: dict[str, Any], metrics: list[str], predicted: list[str]
) -> BaseLine:
    """With the id of this content."""
    content: dict[str, Any] = {
        "config": config,
        "provenance": provenance,
        "metrics": metrics,
        "predicted": predicted,
    }
    return BaseLine(id=content_id(content), **content)


def content_id(content: dict[str, Any]) -> str:
    """8 hex digits of the SHA-256 of the canonical JSON."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
