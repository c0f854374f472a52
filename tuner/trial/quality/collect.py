"""Has a running engine answer the fixed prompts greedily, first in order and then in reverse."""

import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.client import HTTPException
from typing import Any

from pydantic import BaseModel, ConfigDict, FiniteFloat, ValidationError

from serving.endpoint import Endpoint
from serving.probe import ask, bearer
from tuner.config.groups.quality import QualityPrompts
from tuner.trial.quality.answers import Answer, Answers, prompts_hash
from tuner.trial.quality.prompts import prompts

ALTERNATIVES = 2  # log-probabilities a position: of the chosen token, and of the next best


class NoAnswers(Exception):
    """The engine does not answer the prompts. One line."""


class _Outside(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class _Columns(_Outside):
    """As OpenAI's completions have it, and vLLM, SGLang and TensorRT-LLM."""

    tokens: list[str]
    token_logprobs: list[FiniteFloat | None]
    top_logprobs: list[dict[str, FiniteFloat] | None] | None = None


class _Alternative(_Outside):
    token: str
    logprob: FiniteFloat


class _Position(_Alternative):
    top_logprobs: list[_Alternative] = []


class _Rows(_Outside):
    """As OpenAI's chat has it, and llama.cpp also for completions."""

    content: list[_Position]


class _Choice(_Outside):
    text: str
    finish_reason: str | None = None
    logprobs: _Columns | _Rows | None = None


class _Completion(_Outside):
    choices: list[_Choice]


def collect(endpoint: Endpoint, asked: QualityPrompts) -> Answers:
    """All answers. Raises NoAnswers: refused, not understood, or not all there in `asked.timeout_s`.

    Answers repeat only as far as the engine does: the second time other requests are beside each one.
    """
    texts = prompts(asked.prompts)
    until_s = time.monotonic() + asked.timeout_s
    one = partial(_answer, endpoint, asked, until_s)
    with ThreadPoolExecutor(asked.concurrency) as pool:
        first = _all(pool, one, texts)
        again = _all(pool, one, texts[::-1])[::-1]
    return Answers(prompts=prompts_hash(texts, asked.tokens), first=first, again=again)


def _all(pool: ThreadPoolExecutor, one: "partial[Answer]", texts: Sequence[str]) -> list[Answer]:
    futures = [pool.submit(one, text) for text in texts]
    try:
        return [future.result() for future in futures]
    finally:
        for future in futures:
            future.cancel()


def _answer(endpoint: Endpoint, asked: QualityPrompts, until_s: float, prompt: str) -> Answer:
    left_s = until_s - time.monotonic()
    if left_s <= 0:
        raise NoAnswers(f"not all prompts were answered in {asked.timeout_s:g} s")
    body = {
        "model": endpoint.model,
        "prompt": prompt,
        "max_tokens": asked.tokens,
        "temperature": 0,
        "seed": 0,
        "logprobs": ALTERNATIVES,
    }
    headers = {"Content-Type": "application/json", **bearer(endpoint.api_key)}
    url = f"{endpoint.base_url}/v1/completions"
    try:
        status, raw = ask(url, left_s, headers=headers, body=json.dumps(body).encode())
    except (OSError, HTTPException) as error:
        if isinstance(error, TimeoutError) or time.monotonic() >= until_s:
            raise NoAnswers(f"not all prompts were answered in {asked.timeout_s:g} s") from error
        raise NoAnswers(f"no answer to a prompt: {_said(error)}") from error
    if status != 200:
        raise NoAnswers(f"a prompt was refused with status {status}: {_line(raw)}")
    return parsed(raw, asked.tokens)


def parsed(raw: bytes, most: int) -> Answer:
    """The answer in the body of a completion. Raises NoAnswers."""
    try:
        [choice] = _Completion.model_validate_json(raw).choices
    except (ValidationError, ValueError) as error:
        raise NoAnswers(f"an answer is no completion: {_line(raw)}") from error
    ended = choice.finish_reason != "length"
    said = choice.logprobs
    if isinstance(said, _Rows):
        tokens = [each.token for each in said.content][:most]
        logprobs = [each.logprob for each in said.content][:most]
        margins = [
            _margin([other.logprob for other in each.top_logprobs]) for each in said.content
        ][:most]
        return Answer(tokens=tokens, logprobs=logprobs, margins=margins, ended=ended)
    if said is None or any(value is None for value in said.token_logprobs):
        # Without log-probabilities a server names no tokens: words are compared instead.
        return Answer(tokens=choice.text.split(), ended=ended)
    tops: Sequence[Any] = said.top_logprobs or [None] * len(said.tokens)
    return Answer(
        tokens=said.tokens[:most],
        logprobs=[value for value in said.token_logprobs if value is not None][:most],
        margins=[_margin(list(top.values()) if top else []) for top in tops][:most],
        ended=ended,
    )


def _margin(logprobs: Sequence[float]) -> float | None:
    best = sorted(logprobs, reverse=True)
    return best[0] - best[1] if len(best) > 1 else None


def _line(raw: bytes) -> str:
    return " ".join(raw[:200].decode(errors="replace").split()) or "an empty body"


def _said(error: Exception) -> str:
    return str(error).strip() or type(error).__name__
