"""Prompts out of a file: ShareGPT's JSON, or JSONL with one request a line."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loadgen.errors import BadWorkload
from loadgen.prompts.base import Ask
from loadgen.prompts.encoding import Writer, token_counter
from loadgen.prompts.length_sampling import Lengths, drawn_lengths
from loadgen.workload.workload import Content, Dataset

_USERS = ("human", "user")
_MODELS = ("gpt", "assistant", "chatgpt", "bard", "bing")


@dataclass(frozen=True, slots=True)
class Row:
    """One conversation: what the user says each time, and how long each answer was, if told."""

    prompts: tuple[str, ...]
    answers: tuple[str | int | None, ...]  # the text, its tokens, or neither
    system: str = ""
    where: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    rows: tuple[Row, ...]
    writer: Writer
    outputs: Lengths | None  # the workload's own, over those of the file
    count: Callable[[str], int]
    longest_tokens: int
    size: int | None
    multi_turn: bool
    due_s: NDArray[np.float64] | None = None

    def first(self, number: int) -> Ask:
        row = self.rows[number]
        prompt = self.writer.from_text(row.prompts[0], row.system)
        session = number if len(row.prompts) > 1 else -1
        return Ask(prompt, self._tokens(number, 0), None, session)

    def next(self, ask: Ask, answer: str) -> Ask | None:
        turn = ask.turn + 1
        if ask.session < 0 or turn >= len(self.rows[ask.session].prompts):
            return None
        words = json.dumps(self.rows[ask.session].prompts[turn], ensure_ascii=False)[1:-1].encode()
        prompt = self.writer.following(ask.prompt, answer, words)
        return Ask(prompt, self._tokens(ask.session, turn), None, ask.session, turn)

    def _tokens(self, number: int, turn: int) -> int:
        if self.outputs is not None:
            return int(self.outputs[(number * 31 + turn) % len(self.outputs)])
        answer = self.rows[number].answers[turn]
        return max(1, self.count(answer) if isinstance(answer, str) else answer or 1)


def read_dataset(
    content: Content, rows: Sequence[Row], writer: Writer, tokenizer: Path | None
) -> Rows:
    """`output_tokens` of the workload, where given, stands over what the file tells."""
    outputs = None
    if content.output_tokens is not None:
        outputs = drawn_lengths(content.output_tokens, np.random.default_rng(0))
    else:
        for row in rows:
            if None in row.answers:
                raise BadWorkload(
                    f"{row.where}: no output_tokens: give it in the row, or in the workload"
                )
    count = token_counter(tokenizer)
    chars = max(sum(map(len, row.prompts)) for row in rows)
    several = any(len(row.prompts) > 1 for row in rows)
    return Rows(tuple(rows), writer, outputs, count, chars, len(rows), several)


def dataset_rows(dataset: Dataset) -> list[Row]:
    """Raises BadWorkload with the place of the fault."""
    try:
        text = dataset.path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise BadWorkload(f"{dataset.path}: {(why or str(error)).lower()}") from error
    read = _sharegpt if dataset.kind == "sharegpt" else _jsonl
    rows = read(dataset.path, text)[: dataset.limit]
    if not rows:
        raise BadWorkload(f"{dataset.path}: no conversation that begins with a user's words")
    return rows


def _sharegpt(path: Path, text: str) -> list[Row]:
    """Conversations without an answer are left out, as `vllm bench serve` does."""
    try:
        data = json.loads(text)
    except ValueError as error:
        raise BadWorkload(f"{path}: not JSON: {error}") from None
    if not isinstance(data, list):
        raise BadWorkload(f"{path}: expected a list of conversations")
    rows = (_conversation(path, index, entry) for index, entry in enumerate(data))
    return [row for row in rows if row is not None]


def _conversation(path: Path, index: int, entry: Any) -> Row | None:
    where = f"{path}: entry {index}"
    turns = entry.get("conversations") if isinstance(entry, dict) else None
    if not isinstance(turns, list):
        raise BadWorkload(f"{where}: expected conversations: [{{from: human, value: …}}, …]")
    prompts: list[str] = []
    answers: list[str] = []
    system = ""
    for turn in turns:
        who, said = (
            (turn.get("from"), turn.get("value")) if isinstance(turn, dict) else (None, None)
        )
        if not isinstance(who, str) or not isinstance(said, str):
            raise BadWorkload(f"{where}: a turn needs from and value, both text")
        if who == "system":
            system = said
        elif who in _USERS and len(prompts) == len(answers):
            prompts.append(said)
        elif who in _MODELS and len(answers) < len(prompts):
            answers.append(said)
    whole = min(len(prompts), len(answers))
    return Row(tuple(prompts[:whole]), tuple(answers[:whole]), system, where) if whole else None


def _jsonl(path: Path, text: str) -> list[Row]:
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


def _request(where: str, entry: Any) -> Row:
    """One turn: `prompt`, or `messages` of which the user's are said in turn."""
    if not isinstance(entry, dict):
        raise BadWorkload(f'{where}: expected {{"prompt": "…", "output_tokens": 64}}')
    tokens = entry.get("output_tokens", entry.get("max_tokens"))
    if tokens is not None and (not isinstance(tokens, int) or tokens < 1):
        raise BadWorkload(f"{where}: output_tokens: expected a number of tokens: {tokens!r}")
    prompt, messages = entry.get("prompt"), entry.get("messages")
    if isinstance(prompt, str):
        return Row((prompt,), (tokens,), where=where)
    if not isinstance(messages, list):
        raise BadWorkload(f"{where}: expected a prompt (text), or messages")
    said = [
        (message.get("role"), message.get("content"))
        for message in messages
        if isinstance(message, dict)
    ]
    users = tuple(text for role, text in said if role == "user" and isinstance(text, str))
    system = next((t for role, t in said if role == "system" and isinstance(t, str)), "")
    if not users:
        raise BadWorkload(f"{where}: messages: no user's message with text in it")
    return Row(users, (tokens,) * len(users), system, where)
