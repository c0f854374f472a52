"""What is asked of an endpoint: the shape of the requests and how they arrive."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from loadgen.workload.arrivals import Adaptive, Arrival, Closed, Constant, Gamma, Poisson, Trace
from loadgen.workload.lengths import Length, most
from loadgen.workload.strict import Strict

Share = Annotated[float, Field(ge=0, le=1)]


class SharedPrefix(Strict):
    """The first part of each prompt is one of a few, so that a prefix cache can know it.

    `hit_rate` is the share of all prompt tokens that lie in such a prefix.
    """

    hit_rate: Annotated[float, Field(gt=0, lt=1)]
    prefixes: PositiveInt = 1


class Conversation(Strict):
    """Several turns a user; each prompt holds all that was said before, the answers as they came.

    `input_tokens` is the length of the first turn, `next_tokens` of each later one.
    """

    turns: Length
    next_tokens: Length
    think_s: NonNegativeFloat = 0.0


class Dataset(Strict):
    """A file of prompts (ShareGPT's JSON, JSONL), or of a trace's lengths and timestamps."""

    kind: Literal["sharegpt", "jsonl", "mooncake", "azure", "burstgpt"]
    path: Path
    limit: PositiveInt | None = None  # rows

    @property
    def is_trace(self) -> bool:
        return self.kind in ("mooncake", "azure", "burstgpt")


class Content(Strict):
    """What requests say. Lengths are the workload's own unless a dataset brings them."""

    input_tokens: Length | None = None
    output_tokens: Length | None = None
    shared_prefix: SharedPrefix | None = None
    conversation: Conversation | None = None
    dataset: Dataset | None = None


class Part(Content):
    weight: PositiveFloat


class Workload(Content):
    """One kind of request, or a mixture, driven at a ladder of load levels.

    A level lasts until `level_s` and `min_requests` are reached inside its steady window, and, with
    `precision`, until the 95 % intervals of throughput, TTFT and TPOT are within that share of
    their values; but no longer than `level_max_s`. `warmup_s` is the least that is cut off.
    """

    name: str
    endpoint: Literal["completions", "chat"] = "completions"
    prompt: Literal["token_ids", "text"] = "token_ids"
    tokenizer: Path | None = None  # a tokenizer.json: text prompts of exact lengths
    mixture: tuple[Part, ...] = ()
    ignore_eos: bool = True
    continuous_usage: bool = False  # asks for the tokens of each event: vLLM and SGLang tell
    arrival: Arrival
    warmup_s: NonNegativeFloat = 2.0
    level_s: PositiveFloat = 10.0
    min_requests: int = Field(default=0, ge=0)
    level_max_s: PositiveFloat = 60.0
    max_requests: PositiveInt | None = None  # a level ends after so many, whatever else
    precision: Annotated[float, Field(gt=0, lt=1)] | None = None
    request_timeout_s: PositiveFloat = 120.0
    shards: PositiveInt = 1  # processes that share the load
    placement: Literal["beside", "apart"] = "beside"  # the engine's node, or others
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.endpoint == "chat" and self.prompt == "token_ids":
            raise ValueError("chat takes no token ids: prompt must be 'text' with endpoint 'chat'")
        limit = getattr(self.arrival, "max_concurrency", None)
        if limit is not None and limit < self.shards:
            raise ValueError(f"max_concurrency is below shards: {limit} < {self.shards}")
        if self.level_max_s < self.level_s:
            limits = f"{self.level_max_s:g} < {self.level_s:g}"
            raise ValueError(f"level_max_s is below level_s: {limits}")
        for part in self.mixture or (self,):
            _complete(part, self.prompt)
        traces = [p for p in self.mixture or (self,) if p.dataset and p.dataset.is_trace]
        if isinstance(self.arrival, Trace) and (self.mixture or not traces):
            raise ValueError("arrival trace needs a dataset that is one: mooncake, azure, burstgpt")
        return self


def _complete(part: Content, prompt: str) -> None:
    if part.dataset is None and part.input_tokens is None:
        raise ValueError("input_tokens is needed where no dataset brings the prompts")
    if part.dataset is None and part.output_tokens is None:
        raise ValueError("output_tokens is needed where no dataset brings them")
    if part.dataset and (part.conversation or part.shared_prefix):
        raise ValueError("a dataset brings its own conversations and prefixes: leave them out")
    kind = part.dataset.kind if part.dataset else ""
    if prompt == "token_ids" and (part.conversation or kind in ("sharegpt", "jsonl")):
        what = kind or "a conversation"
        raise ValueError(f"{what} holds text: prompt must be 'text'")


def level_count(workload: Workload) -> int:
    """How many load levels; the most, where they are chosen as the load goes on."""
    match workload.arrival:
        case Closed(concurrency=steps):
            return len(steps)
        case Constant(rate_per_s=rates) | Poisson(rate_per_s=rates) | Gamma(rate_per_s=rates):
            return len(rates)
        case Adaptive(levels=levels):
            return levels
        case _:
            return 1


def longest_tokens(workload: Workload) -> tuple[int, int] | None:
    """Prompt and answer that are the longest together, as far as the workload tells: None with datasets."""
    longest = (0, 0)
    for part in workload.mixture or (workload,):
        if part.input_tokens is None or part.output_tokens is None:
            return None
        prompt, answer = most(part.input_tokens), most(part.output_tokens)
        if part.conversation:
            more = most(part.conversation.turns) - 1
            prompt += more * (answer + most(part.conversation.next_tokens))
        longest = max(longest, (prompt, answer), key=sum)
    return longest


def lengths_text(workload: Workload) -> str:
    """For people: "1024 → 1024 tokens"."""
    parts = []
    for part in workload.mixture or (workload,):
        if part.dataset:
            parts.append(f"{part.dataset.kind} {part.dataset.path.name}")
        else:
            parts.append(f"{part.input_tokens} → {part.output_tokens} tokens{_manner(part)}")
    return " | ".join(parts)


def _manner(part: Content) -> str:
    if part.conversation:
        return f", {part.conversation.turns} turns"
    return f", {part.shared_prefix.hit_rate:.0%} shared" if part.shared_prefix else ""


def loads_text(workload: Workload) -> str:
    """For people: what the levels of load are."""
    match workload.arrival:
        case Closed(concurrency=steps):
            return f"a ladder of {', '.join(map(str, steps))} users"
        case Constant(rate_per_s=rates) | Poisson(rate_per_s=rates) | Gamma(rate_per_s=rates):
            return f"a ladder of {', '.join(f'{rate:g}' for rate in rates)} requests/s"
        case Adaptive(loop=loop, lowest=lowest, highest=highest, levels=levels):
            unit = "users" if loop == "closed" else "requests/s"
            return f"up to {levels} levels, found between {lowest:g} and {highest:g} {unit}"
        case other:
            return f"a {other.kind} of arrivals"
