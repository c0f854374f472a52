"""The quality gate: which trials answer the fixed prompts, and how far answers may differ. Pure."""

from typing import Annotated, Literal

from pydantic import Field

from serving.topology import Seconds, Strict

Task = Annotated[str, Field(pattern=r"^\w[\w.-]{0,99}$")]


class LmEval(Strict):
    """How lm-eval runs the tasks: in an environment of its own, against the trial's endpoint."""

    executable: str = Field(
        default="lm_eval", description="path of lm-eval's command, or a name on PATH"
    )
    include_path: Annotated[str, Field(pattern="^/")] | None = Field(
        default=None,
        description="absolute path of a folder on every node with further task definitions (YAML)",
    )
    chat: bool = Field(
        default=False, description="ask /v1/chat/completions, with the model's chat template"
    )
    metric: str | None = Field(
        default=None,
        description="metric, or metric and filter (exact_match,strict-match), that says what is right; unset: "
        "the first of exact_match, acc, acc_norm, pass@1 that a task has",
    )
    limit: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(
        default=None, description="documents of each task, the first ones; unset: all"
    )
    model_args: dict[str, str | int | float | bool] = Field(
        default_factory=dict,
        description="further arguments of lm-eval's model, for example tokenizer and tokenizer_backend for "
        "tasks of log-likelihood",
    )
    args: tuple[str, ...] = Field(default=(), description="further arguments of lm-eval")
    fetch: bool = Field(
        default=False,
        description="whether lm-eval may download data sets and tokenizers; false: only what is on the node",
    )
    timeout_s: Seconds = Field(
        default=3600.0, description="seconds in which all tasks of a trial must be over"
    )


class QualityPrompts(Strict):
    """What a trial answers after its load: fixed prompts, greedily, twice; and tasks."""

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
    tasks: tuple[Task, ...] = Field(
        default=(), description="tasks or groups of lm-eval that are run too, for example gsm8k"
    )
    lm_eval: LmEval = Field(default=LmEval(), description="how the tasks are run")


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
    max_task_loss: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.0,
        description="share of a task's documents that a trial may get wrong beyond the reference: it is "
        "rejected if the whole 95 % interval of its loss lies above",
    )

    def asked(self) -> QualityPrompts:
        """The part of it that a trial needs."""
        return QualityPrompts(**{name: getattr(self, name) for name in QualityPrompts.model_fields})
