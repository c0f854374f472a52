"""Encodes prompts as JSON: token ids, a string, or chat messages; and the next turn of a conversation."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from loadgen.errors import BadWorkload
from loadgen.prompts.token_pool import TokenPool, token_pool
from loadgen.prompts.words import WORDS
from loadgen.workload.workload import Workload

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_USER = b'{"role":"user","content":'
_ASSISTANT = b'{"role":"assistant","content":'
_CHECKED_LENGTHS = (1, 2, 3, 7, 64, 500)
_PIECES_MIN = 32


@dataclass(frozen=True, slots=True)
class PromptEncoder:
    """Encodes prompts in the form that a workload asks for."""

    pool: TokenPool
    chat: bool
    token_ids: bool
    exact_lengths: bool  # whether the server counts exactly the tokens that were sampled
    mark: str = (
        ""  # at the beginning of given texts, so that no prefix cache holds them from another run
    )

    def from_tokens(self, tokens: bytes) -> bytes:
        """`tokens`: slices of the pool, joined by its separator."""
        if self.token_ids:
            return b"[" + tokens + b"]"
        text = b'"' + tokens + b'"'
        return b"[" + _USER + text + b"}]" if self.chat else text

    def from_text(self, text: str, system: str = "") -> bytes:
        """A prompt of given text, after a system message if there is one."""
        system, text = (self.mark + system, text) if system else ("", self.mark + text)
        if not self.chat:
            return msgspec.json.encode(f"{system}\n{text}" if system else text)
        roles = [("system", system)] if system else []
        messages = [{"role": r, "content": t} for r, t in (*roles, ("user", text))]
        return msgspec.json.encode(messages)

    def next_turn(self, prompt: bytes, answer: str, words: bytes) -> bytes:
        """The prompt of the next turn: the previous prompt, its answer, and the new user text.

        `words`: the new text as JSON, without its quotes.
        """
        answer_json = msgspec.json.encode(answer)
        if self.chat:
            turn = b"," + _ASSISTANT + answer_json + b"}," + _USER + b'"' + words + b'"}]'
            return prompt[:-1] + turn
        return prompt[:-1] + answer_json[1:-1] + b" " + words + b'"'


def prompt_encoder(workload: Workload, vocabulary: int, longest: int) -> PromptEncoder:
    """`longest`: most tokens of one slice. Raises BadWorkload for a tokenizer that can't be used."""
    salt = workload.prompt_salt
    random = np.random.default_rng((workload.seed, salt) if salt else workload.seed)
    chat, mark = workload.endpoint == "chat", f"[{salt}] " if salt else ""
    if workload.prompt == "token_ids":
        pool = token_pool(_plain_ids(vocabulary), b",", longest, random)
        return PromptEncoder(pool, chat, token_ids=True, exact_lengths=True)
    if workload.tokenizer is None:
        pool = token_pool([word.encode() for word in WORDS], b" ", longest, random)
        return PromptEncoder(pool, chat, token_ids=False, exact_lengths=False, mark=mark)
    pieces = _one_token_words(workload.tokenizer)
    pool = token_pool(pieces, b" ", longest, random)
    _check_exact(workload.tokenizer, pool)
    # A chat template adds tokens.
    return PromptEncoder(pool, chat, token_ids=False, exact_lengths=not chat, mark=mark)


def _plain_ids(vocabulary: int) -> list[bytes]:
    """The middle of the vocabulary: special tokens are at the low end or at the very top."""
    low = min(1000, vocabulary // 8)
    high = max(vocabulary - vocabulary // 50, low + 1)
    return [str(i).encode() for i in range(low, high)]


def _load_tokenizer(path: Path) -> "Tokenizer":
    import tokenizers

    try:
        return tokenizers.Tokenizer.from_str(path.read_text())
    except OSError as error:
        raise BadWorkload(f"tokenizer: {path}: {(error.strerror or '').lower()}") from error
    except Exception as error:  # noqa: BLE001  (the library raises nothing narrower)
        line = next(iter(str(error).splitlines()), type(error).__name__)
        raise BadWorkload(f"tokenizer: {path} is not a valid tokenizer.json: {line}") from None


def _length(tokenizer: "Tokenizer", text: str) -> int:
    return len(tokenizer.encode(text, add_special_tokens=False).ids)


def token_counter(path: Path | None) -> Callable[[str], int]:
    """Counts the tokens of a text; without a tokenizer it assumes 4 tokens for 3 English words."""
    if path is None:
        return lambda text: round(len(text.split()) * 4 / 3)
    tokenizer = _load_tokenizer(path)
    return lambda text: _length(tokenizer, text)


def _one_token_words(path: Path) -> list[bytes]:
    """Words that are one token both alone and after a space: ours, then the tokenizer's own."""
    tokenizer = _load_tokenizer(path)
    bare = (token.lstrip("Ġ▁") for token in sorted(tokenizer.get_vocab()))
    own = (word for word in bare if word.isascii() and word.isalpha() and len(word) > 1)
    words = dict.fromkeys((*WORDS, *own))
    found = [
        word.encode()
        for word in words
        if _length(tokenizer, word) == 1 and _length(tokenizer, f"{word} {word}") == 2
    ]
    if len(found) < _PIECES_MIN:
        raise BadWorkload(
            f"tokenizer: {path} has only {len(found)} words of one token; text of exact lengths "
            f"needs {_PIECES_MIN}: use prompt=token_ids"
        )
    return found


def _check_exact(path: Path, pool: TokenPool) -> None:
    tokenizer = _load_tokenizer(path)
    for number, length in enumerate(_CHECKED_LENGTHS):
        got = _length(tokenizer, pool.distinct(number, length).decode())
        if got != length:
            raise BadWorkload(
                f"tokenizer: {path} splits {length} one-token words into {got} tokens: "
                "exact lengths are impossible with it, use prompt=token_ids"
            )
