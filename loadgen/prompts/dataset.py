"""Prompts from a file: ShareGPT's JSON, or JSONL with one request a line."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loadgen.errors import BadWorkload
from loadgen.prompts.base import Request
from loadgen.prompts.encoding import PromptEncoder, token_counter
from loadgen.prompts.length_sampling import Lengths, sample_lengths
from loadgen.workload.workload import Content, Dataset

_USERS = ("human", "user")
_MODELS = ("gpt", "assistant", "chatgpt", "bard", "bing")


@dataclass(frozen=True, slots=True)
class DatasetRow:
    """One conversation: the user's prompts in turn, and the recorded answers.

    `where` is its place in the file, for messages.
    """

    prompts: tuple[str, ...]
    answers: tuple[str | int | None, ...]  # text, or number of tokens; None: not recorded
    system: str = ""
    where: str = ""


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


def read_dataset(dataset: Dataset) -> list[DatasetRow]:
    """The rows of a file, at most `limit`. Raises BadWorkload with file and line."""
    try:
        text = dataset.path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise BadWorkload(f"{dataset.path}: {(why or str(error)).lower()}") from error
    read = _sharegpt if dataset.kind == "sharegpt" else _jsonl
    rows = read(dataset.path, text)[: dataset.limit]
    if not rows:
        raise BadWorkload(
            f"{dataset.path}: no usable conversation: each needs a user message and an answer"
        )
    return rows


def _sharegpt(path: Path, text: str) -> list[DatasetRow]:
    """Conversations without an answer are left out, as `vllm bench serve` does."""
    try:
        data = json.loads(text)
    except ValueError as error:
        raise BadWorkload(f"{path}: not JSON: {error}") from None
    if not isinstance(data, list):
        raise BadWorkload(f"{path}: expected a list of conversations")
    rows = (_conversation(path, index, entry) for index, entry in enumerate(data))
    return [row for row in rows if row is not None]


def _conversation(path: Path, index: int, entry: Any) -> DatasetRow | None:
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
        if role == "system":
            system = value
        elif role in _USERS and len(prompts) == len(answers):
            prompts.append(value)
        elif role in _MODELS and len(answers) < len(prompts):
            answers.append(value)
    turns_answered = min(len(prompts), len(answers))
    if not turns_answered:
        return None
    pairs = tuple(prompts[:turns_answered]), tuple(answers[:turns_answered])
    return DatasetRow(*pairs, system, where)


def _jsonl(path: Path, text: str) -> list[DatasetRow]:
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            where = f"{path}:{number}"
            try:
                entry = json.loads(line)
            except ValueError as error:
                raise BadWorkload(f"{where}: not JSON: {error}") from None
            rows.append(_request(where, entry))
    return rows


def _request(where: str, entry: Any) -> DatasetRow:
    """One turn (`prompt`), or one turn for each user message of `messages`."""
    if not isinstance(entry, dict):
        raise BadWorkload(f'{where}: expected {{"prompt": "…", "output_tokens": 64}}')
    tokens = entry.get("output_tokens", entry.get("max_tokens"))
    if tokens is not None and (not isinstance(tokens, int) or tokens < 1):
        raise BadWorkload(f"{where}: output_tokens: expected a positive integer, got {tokens!r}")
    prompt, messages = entry.get("prompt"), entry.get("messages")
    if isinstance(prompt, str):
        return DatasetRow((prompt,), (tokens,), where=where)
    if not isinstance(messages, list):
        raise BadWorkload(f"{where}: expected a prompt (a string) or messages (a list)")
    turns = [
        (message.get("role"), message.get("content"))
        for message in messages
        if isinstance(message, dict)
    ]
    users = tuple(text for role, text in turns if role == "user" and isinstance(text, str))
    system = next((t for role, t in turns if role == "system" and isinstance(t, str)), "")
    if not users:
        raise BadWorkload(f"{where}: messages: no user message with text")
    return DatasetRow(users, (tokens,) * len(users), system, where)
