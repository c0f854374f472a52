"""The quality gate: which trials answer the fixed prompts, and how far answers may differ. Pure."""

from typing import Annotated, Literal

from pydantic import Field

from serving.topology import Seconds, Strict


class QualityPrompts(Strict):
    """What a trial answers after its load: fixed prompts, greedily, twice."""

    prompts: Annotated[int, Field(ge=8, le=72)] = Field(
        default=64, description="number of fixed prompts"
    )
    tokens: Annotated[int, Field(ge=4, le=512)] = Field(
        default=32, description="most tokens of an answer"
    )
    concurrency: Annotated[int, Field(ge=1, le=256)] = Field(
        default=8, description="prompts that are answered at once"
    )
    timeout_s: Seconds = Field(
        default=600.0, description="seconds in which all answers of a trial must have arrived"
    )


class QualityConfig(QualityPrompts):
    """Compares answers of configurations that change numerics with those of the study's default."""

    check: Literal["numerics", "all", "none"] = Field(
        default="numerics",
        description="numerics: trials whose precision, KV cache type, speculative method, kernels or model "
        "differ from the default's; all: every trial; none: no trial",
    )
    max_disagreement: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.05,
        description="largest share of greedy tokens that may differ from the reference's after the same "
        "context, on top of the share that differs when the reference answers again",
    )
    max_drift_nats: Annotated[float, Field(gt=0, le=100)] | None = Field(
        default=None,
        description="largest mean absolute difference of the log-probabilities of equal tokens, in nats, on "
        "top of the reference's own; unset: reported, decides nothing",
    )

    def asked(self) -> QualityPrompts:
        """The part of it that a trial needs."""
        return QualityPrompts(**{name: getattr(self, name) for name in QualityPrompts.model_fields})
