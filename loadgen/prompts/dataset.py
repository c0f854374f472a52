"""Prompts from a file: ShareGPT's JSON, or JSONL with one request a line."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loadgen.errors import BadWorkload
from loadgen.prompts.base import Request
from loadgen.prompts.data_file import checked_text, data_lines, parsed_json, shown
from loadgen.prompts.encoding import PromptEncoder, token_counter
from loadgen.prompts.length_sampling import Lengths, sample_lengths
from loadgen.workload.strict import TOKENS_MAX
from loadgen.workload.workload import Content, Dataset

_USERS = ("human", "user")
_MODELS = ("gpt", "assistant", "chatgpt", "bard", "bing")
_SYSTEMS = ("system", "developer")
_TEXTS = ("text", "input_text")  # types of parts of a message that are text
NO_ANSWER = "conversations without an answer"


@dataclass(frozen=True, slots=True)
class DatasetRow:
    """One conversation: the user's prompts in turn, and the recorded answers.

    `where` is its place in the file, for messages.
    """

    prompts: tuple[str, ...]
    answers: tuple[str | int | None, ...]  # text, or number of tokens; None: not recorded
    system: str = ""
    where: str = ""


@dataclass(frozen=True, slots=True)
class DatasetRows:
    """A file as read. `left_out`: how many of what."""

    rows: tuple[DatasetRow, ...]
    left_out: dict[str, int]


@dataclass(frozen=True, slots=True, eq=False)
class DatasetSource:
    """Requests of a dataset, one session a row."""

    rows: tuple[DatasetRow, ...]
    encoder: PromptEncoder
    outputs: Lengths | None  # the workload's output lengths, in place of those of the file
    count: Callable[[str], int]
    longest_tokens: int
    size: int | None
    multi_turn: bool
    due_s: NDArray[np.float64] | None = None

    def first(self, number: int) -> Request:
        """The first prompt of a row."""
        row = self.rows[number]
        prompt = self.encoder.from_text(row.prompts[0], row.system)
        session = number if len(row.prompts) > 1 else -1
        return Request(prompt, self._tokens(number, 0), None, session)

    def next(self, request: Request, answer: str) -> Request | None:
        """The next prompt of the same row, after the answer as generated."""
        turn = request.turn + 1
        if request.session < 0 or turn >= len(self.rows[request.session].prompts):
            return None
        text = self.rows[request.session].prompts[turn]
        words = json.dumps(text, ensure_ascii=False)[1:-1].encode()
        prompt = self.encoder.next_turn(request.prompt, answer, words)
        return Request(prompt, self._tokens(request.session, turn), None, request.session, turn)

    def _tokens(self, number: int, turn: int) -> int:
        if self.outputs is not None:
            return int(self.outputs[(number * 31 + turn) % len(self.outputs)])
        answer = self.rows[number].answers[turn]
        return max(1, self.count(answer) if isinstance(answer, str) else answer or 1)


def dataset_source(
    content: Content, rows: Sequence[DatasetRow], encoder: PromptEncoder, tokenizer: Path | None
) -> DatasetSource:
    """`output_tokens` of the workload, where given, overrides the lengths of the file.

    Raises BadWorkload if neither gives the length of an answer.
    """
    outputs = None
    if content.output_tokens is not None:
        outputs = sample_lengths(content.output_tokens, np.random.default_rng(0))
    else:
        for row in rows:
            if None in row.answers:
                raise BadWorkload(
                    f"{row.where}: no output_tokens: set it in the row or in the workload"
                )
    count = token_counter(tokenizer)
    chars = max(sum(map(len, row.prompts)) for row in rows)
    several = any(len(row.prompts) > 1 for row in rows)
    return DatasetSource(tuple(rows), encoder, outputs, count, chars, len(rows), several)


def read_dataset(dataset: Dataset) -> DatasetRows:
    """The rows of a file, at most `limit`. Raises BadWorkload with file and line."""
    left_out = Counter[str]()
    read = _sharegpt if dataset.kind == "sharegpt" else _jsonl
    rows = read(dataset.path, left_out)[: dataset.limit]
    if not rows:
        raise BadWorkload(
            f"{dataset.path}: no usable conversation: each needs a user message and an answer"
        )
    return DatasetRows(tuple(rows), dict(left_out))


def _sharegpt(path: Path, left_out: Counter[str]) -> list[DatasetRow]:
    """Conversations without an answer are left out, as `vllm bench serve` does."""
    text = "".join(line for _, line in data_lines(path))
    data = parsed_json(str(path), text)
    if not isinstance(data, list):
        raise BadWorkload(f"{path}: expected a list of conversations")
    rows = (_conversation(path, index, entry, left_out) for index, entry in enumerate(data))
    return [row for row in rows if row is not None]


def _conversation(path: Path, index: int, entry: Any, left_out: Counter[str]) -> DatasetRow | None:
    where = f"{path}: entry {index}"
    turns = entry.get("conversations") if isinstance(entry, dict) else None
    if not isinstance(turns, list):
        raise BadWorkload(f"{where}: expected conversations: [{{from: human, value: …}}, …]")
    prompts: list[str] = []
    answers: list[str] = []
    system = ""
    for turn in turns:
        role, value = (
            (turn.get("from"), turn.get("value")) if isinstance(turn, dict) else (None, None)
        )
        if not isinstance(role, str) or not isinstance(value, str):
            raise BadWorkload(f"{where}: a turn needs from and value, both strings")
        checked_text(where, value)
        if role in _SYSTEMS:
            system = value
        elif role in _USERS and len(prompts) == len(answers):
            prompts.append(value)
        elif role in _MODELS and len(answers) < len(prompts):
            answers.append(value)
        else:
            left_out[_skipped_turn(role)] += 1
    turns_answered = min(len(prompts), len(answers))
    if not turns_answered:
        left_out[NO_ANSWER] += 1
        return None
    left_out["prompts without an answer"] += len(prompts) - turns_answered
    pairs = tuple(prompts[:turns_answered]), tuple(answers[:turns_answered])
    return DatasetRow(*pairs, system, where)


def _skipped_turn(role: str) -> str:
    known = role in _USERS or role in _MODELS
    return "turns out of order" if known else f"turns of {role[:40]!r}"


def _jsonl(path: Path, left_out: Counter[str]) -> list[DatasetRow]:
    return [
        _request(where, parsed_json(where, line), left_out)
        for number, line in data_lines(path)
        if line.strip() and (where := f"{path}:{number}")
    ]


def _request(where: str, entry: Any, left_out: Counter[str]) -> DatasetRow:
    """One turn (`prompt`), or one turn for each user message of `messages`."""
    if not isinstance(entry, dict):
        raise BadWorkload(f'{where}: expected {{"prompt": "…", "output_tokens": 64}}')
    tokens = entry.get("output_tokens", entry.get("max_tokens"))
    whole = isinstance(tokens, int) and not isinstance(tokens, bool)
    if tokens is not None and not (whole and 1 <= tokens <= TOKENS_MAX):
        raise BadWorkload(
            f"{where}: output_tokens: expected 1 to {TOKENS_MAX:,}, got {shown(tokens)}"
        )
    prompt, messages = entry.get("prompt"), entry.get("messages")
    if isinstance(prompt, str):
        return DatasetRow((checked_text(where, prompt),), (tokens,), where=where)
    if not isinstance(messages, list):
        raise BadWorkload(f"{where}: expected a prompt (a string) or messages (a list)")
    users: list[str] = []
    systems: list[str] = []
    for index, message in enumerate(messages):
        role = message.get("role") if isinstance(message, dict) else None
        if not isinstance(role, str):
            raise BadWorkload(f"{where}: messages.{index}: expected role and content")
        if role == "user" or role in _SYSTEMS:
            text = _text(f"{where}: messages.{index}", message.get("content"))
            (users if role == "user" else systems).append(text)
        elif role != "assistant":  # answers are those that the engine generates
            left_out[f"messages of {role[:40]!r}"] += 1
    if not users:
        raise BadWorkload(f"{where}: messages: no user message with text")
    return DatasetRow(tuple(users), (tokens,) * len(users), "\n".join(systems), where)


def _text(where: str, content: Any) -> str:
    """The text of a message: a string, or parts that are all text."""
    if isinstance(content, str):
        return checked_text(where, content)
    parts = content if isinstance(content, list) else [content]
    texts = []
    for part in parts:
        kind = part.get("type") if isinstance(part, dict) else None
        text = part.get("text") if isinstance(part, dict) and kind in _TEXTS else None
        if not isinstance(text, str):
            what = f"content of type {kind!r}" if isinstance(kind, str) else "no text"
            raise BadWorkload(f"{where}: {what}: only text can be sent")
        texts.append(checked_text(where, text))
    return "\n".join(texts)
