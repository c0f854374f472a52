"""The workload: what requests look like and how they arrive."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from loadgen.workload.arrivals import (
    Adaptive,
    Arrival,
    Closed,
    Constant,
    Gamma,
    Poisson,
    Trace,
    most_requests,
)
from loadgen.workload.lengths import Length, longest, shortest
from loadgen.workload.request_overrides import RequestOverrides
from loadgen.workload.strict import Pause, Requests, Salt, Seconds, Seed, Strict, Weight

REQUESTS_MAX = 20_000_000  # scheduled in one level, 8 bytes each several times over


class SharedPrefix(Strict):
    """Prompts that begin with one of a few common prefixes, so that a prefix cache can hit."""

    hit_rate: Annotated[float, Field(gt=0, lt=1)] = Field(
        description="share of all prompt tokens that lie in a shared prefix"
    )
    prefixes: Annotated[int, Field(gt=0, le=1_000_000)] = Field(
        default=1, description="number of different prefixes"
    )


class Conversation(Strict):
    """Several turns a session; each prompt holds the whole history, with the answers as generated."""

    turns: Length = Field(description="turns of a conversation")
    next_tokens: Length = Field(
        description="new user tokens in each turn after the first, which has input_tokens"
    )
    think_s: Pause = Field(default=0.0, description="pause from an answer to the next turn, s")


class Dataset(Strict):
    """A file of prompts (ShareGPT's JSON, JSONL), or of a trace's lengths and timestamps."""

    kind: Literal["sharegpt", "jsonl", "mooncake", "azure", "burstgpt"] = Field(
        description="format: sharegpt, jsonl (prompts); mooncake, azure, burstgpt (traces)"
    )
    path: Path = Field(description="file to read")
    limit: Requests | None = Field(default=None, description="read only this many rows")

    @property
    def is_trace(self) -> bool:
        """Whether the file holds lengths and timestamps instead of text."""
        return self.kind in ("mooncake", "azure", "burstgpt")


class Content(Strict):
    """Prompts and answer lengths: the workload's own, or those of a dataset."""

    input_tokens: Length | None = Field(
        default=None, description="prompt length, tokens; not with a dataset"
    )
    output_tokens: Length | None = Field(
        default=None, description="answer length, tokens; overrides the lengths of a dataset"
    )
    shared_prefix: SharedPrefix | None = Field(
        default=None, description="common prefixes of prompts, for prefix caching"
    )
    conversation: Conversation | None = Field(
        default=None, description="several turns a session, with the history in the prompt"
    )
    dataset: Dataset | None = Field(
        default=None, description="file that the prompts or the lengths come from"
    )


class Part(Content):
    """One component of a mixture."""

    weight: Weight = Field(description="relative share of the requests")


class Workload(Content):
    """One kind of request, or a mixture, sent at a ladder of load levels.

    A level lasts until `level_s` and `min_requests` are reached inside its steady window, and, with
    `precision`, until the 95 % intervals of throughput, TTFT and TPOT are that narrow; but no longer
    than `level_max_s`.
    """

    name: str = Field(description="name in reports and plots")
    endpoint: Literal["completions", "chat"] = Field(
        default="completions", description="API route: /v1/completions or /v1/chat/completions"
    )
    prompt: Literal["token_ids", "text"] = Field(
        default="token_ids", description="form of the prompt; chat takes text only"
    )
    tokenizer: Path | None = Field(
        default=None, description="tokenizer.json, for text prompts of exact lengths"
    )
    mixture: tuple[Part, ...] = Field(
        default=(), description="several kinds of request, in place of the fields of one"
    )
    ignore_eos: bool = Field(
        default=True, description="generate up to output_tokens even if the model ends earlier"
    )
    continuous_usage: bool = Field(
        default=False, description="request token counts in every event (vLLM and SGLang have them)"
    )
    arrival: Arrival = Field(description="how requests arrive, and the load levels")
    warmup_s: Pause = Field(
        default=2.0, description="least time cut off at the start of a level, s"
    )
    level_s: Seconds = Field(default=10.0, description="least measured time of a level, s")
    min_requests: Annotated[int, Field(ge=0, le=1_000_000_000)] = Field(
        default=0, description="least requests completed in the measured time"
    )
    level_max_s: Seconds = Field(default=60.0, description="longest duration of a level, s")
    max_requests: Requests | None = Field(
        default=None, description="end a level after this many requests, whatever else is asked"
    )
    precision: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        default=None,
        description="extend a level until the 95 % intervals of throughput, TTFT and TPOT are within"
        " ± this share of their values",
    )
    request_timeout_s: Seconds = Field(
        default=120.0, description="a request fails after this time, s"
    )
    shards: Annotated[int, Field(gt=0, le=1024)] = Field(
        default=1, description="load generator processes, one core each"
    )
    placement: Literal["beside", "apart"] = Field(
        default="beside", description="run the shards on the engine's node, or on other nodes"
    )
    seed: Seed = Field(default=0, description="seed of prompts, lengths and arrivals")
    prompt_salt: Salt | None = Field(
        default=None,
        description="changes the prompts, not their lengths, so that no prefix cache holds them from an"
        " earlier run; null: a new one for each run, which its results name; 0: none",
    )
    request: RequestOverrides = Field(
        default=RequestOverrides(), description="fields of the request body, headers and TLS"
    )

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
        requests = most_requests(self.arrival, self.warmup_s + self.level_max_s)
        if self.max_requests is None and requests > REQUESTS_MAX:
            raise ValueError(
                f"arrival: a level of {self.warmup_s + self.level_max_s:g} s (warmup_s + level_max_s) would "
                f"have {requests:.2g} requests; at most {REQUESTS_MAX:,}: lower the rate, or set max_requests"
            )
        for part in self.mixture or (self,):
            _complete(part, self.prompt)
        traces = [p for p in self.mixture or (self,) if p.dataset and p.dataset.is_trace]
        if isinstance(self.arrival, Trace) and (self.mixture or not traces):
            raise ValueError("arrival trace needs a trace dataset: mooncake, azure or burstgpt")
        return self


def _complete(part: Content, prompt: str) -> None:
    if part.dataset is None and part.input_tokens is None:
        raise ValueError("input_tokens is missing: it is required without a dataset")
    if part.dataset is None and part.output_tokens is None:
        raise ValueError("output_tokens is missing: it is required without a dataset")
    if part.dataset and (part.conversation or part.shared_prefix):
        raise ValueError("a dataset has its own conversations and prefixes: leave them out")
    kind = part.dataset.kind if part.dataset else ""
    if prompt == "token_ids" and (part.conversation or kind in ("sharegpt", "jsonl")):
        what = kind or "a conversation"
        raise ValueError(f"{what} holds text: prompt must be 'text'")


def level_count(workload: Workload) -> int:
    """The number of load levels; of an adaptive load, the most there can be."""
    match workload.arrival:
        case Closed(concurrency=users):
            return len(users)
        case Constant(rate_per_s=rates) | Poisson(rate_per_s=rates) | Gamma(rate_per_s=rates):
            return len(rates)
        case Adaptive(levels=levels):
            return levels
        case _:
            return 1


def longest_tokens(workload: Workload) -> tuple[int, int] | None:
    """Prompt and answer tokens of the longest request; None where a dataset decides."""
    found = (0, 0)
    for part in workload.mixture or (workload,):
        if part.input_tokens is None or part.output_tokens is None:
            return None
        prompt, answer = longest(part.input_tokens), longest(part.output_tokens)
        if part.conversation:
            later_turns = longest(part.conversation.turns) - 1
            prompt += later_turns * (answer + longest(part.conversation.next_tokens))
        found = max(found, (prompt, answer), key=sum)
    return found


def lockstep(workload: Workload) -> str:
    """Why the users of a closed loop fall into step; empty if they don't. One line."""
    output, arrival = workload.output_tokens, workload.arrival
    own = workload.mixture or workload.dataset or workload.conversation or not workload.ignore_eos
    if own or output is None or shortest(output) < longest(output):
        return ""
    closed = isinstance(arrival, Closed) and max(arrival.concurrency) > 1
    if not closed and not (isinstance(arrival, Adaptive) and arrival.loop == "closed"):
        return ""
    return (
        f"all answers have {longest(output):,} tokens, so the users of a closed loop fall into step: TTFT and "
        "throughput of a level can be off several times over"
    )


def lengths_text(workload: Workload) -> str:
    """The lengths as shown to people: "1024 → 1024 tokens"."""
    parts = []
    for part in workload.mixture or (workload,):
        if part.dataset:
            parts.append(f"{part.dataset.kind} {part.dataset.path.name}")
        else:
            parts.append(f"{part.input_tokens} → {part.output_tokens} tokens{_extras(part)}")
    return " | ".join(parts)


def _extras(part: Content) -> str:
    if part.conversation:
        return f", {part.conversation.turns} turns"
    return f", {part.shared_prefix.hit_rate:.0%} shared" if part.shared_prefix else ""


def loads_text(workload: Workload) -> str:
    """The load levels as shown to people: "a ladder of 1, 8, 64 users"."""
    match workload.arrival:
        case Closed(concurrency=users):
            return f"a ladder of {', '.join(map(str, users))} users"
        case Constant(rate_per_s=rates) | Poisson(rate_per_s=rates) | Gamma(rate_per_s=rates):
            return f"a ladder of {', '.join(f'{rate:g}' for rate in rates)} requests/s"
        case Adaptive(loop=loop, lowest=lowest, highest=highest, levels=levels):
            unit = "users" if loop == "closed" else "requests/s"
            return f"up to {levels} adaptive levels between {lowest:g} and {highest:g} {unit}"
        case other:
            return f"one level of {other.kind} arrivals"
