"""From tokens to a prompt as JSON: ids, a text, or chat messages; and the next turn of a conversation."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from loadgen.errors import BadWorkload
from loadgen.prompts.token_pool import TokenPool, pool_of
from loadgen.prompts.words import WORDS
from loadgen.workload.workload import Workload

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_USER = b'{"role":"user","content":'
_ASSISTANT = b'{"role":"assistant","content":'
_CHECKED_LENGTHS = (1, 2, 3, 7, 64, 500)
_PIECES_MIN = 32


@dataclass(frozen=True, slots=True)
class Writer:
    """How this workload's requests hold their prompt."""

    pool: TokenPool
    chat: bool
    ids: bool
    counted: bool  # the length of a prompt is exact

    def prompt(self, tokens: bytes) -> bytes:
        """`tokens`: slices of the pool, joined by its separator."""
        if self.ids:
            return b"[" + tokens + b"]"
        text = b'"' + tokens + b'"'
        return b"[" + _USER + text + b"}]" if self.chat else text

    def from_text(self, text: str, system: str = "") -> bytes:
        if not self.chat:
            return msgspec.json.encode(f"{system}\n{text}" if system else text)
        roles = [("system", system)] if system else []
        messages = [{"role": r, "content": t} for r, t in (*roles, ("user", text))]
        return msgspec.json.encode(messages)

    def following(self, prompt: bytes, answer: str, words: bytes) -> bytes:
        """The prompt of the next turn: all so far, the answer as it came, and the new words.

        `words` is JSON text without its quotes.
        """
        said = msgspec.json.encode(answer)
        if self.chat:
            turn = b"," + _ASSISTANT + said + b"}," + _USER + b'"' + words + b'"}]'
            return prompt[:-1] + turn
        return prompt[:-1] + said[1:-1] + b" " + words + b'"'


def writer_of(workload: Workload, vocabulary: int, longest: int) -> Writer:
    """Raises BadWorkload for a tokenizer that can't be used."""
    random = np.random.default_rng(workload.seed)
    chat = workload.endpoint == "chat"
    if workload.prompt == "token_ids":
        pool = pool_of(_plain_ids(vocabulary), b",", longest, random)
        return Writer(pool, chat, ids=True, counted=True)
    if workload.tokenizer is None:
        pool = pool_of([word.encode() for word in WORDS], b" ", longest, random)
        return Writer(pool, chat, ids=False, counted=False)
    pieces = _single_tokens(workload.tokenizer)
    pool = pool_of(pieces, b" ", longest, random)
    _check_exact(workload.tokenizer, pool)
    return Writer(pool, chat, ids=False, counted=not chat)  # a chat template adds its own


def _plain_ids(vocabulary: int) -> list[bytes]:
    """Where vocabularies keep plain text: special tokens sit at the low end, or the very top."""
    low = min(1000, vocabulary // 8)
    high = max(vocabulary - vocabulary // 50, low + 1)
    return [str(i).encode() for i in range(low, high)]


def _loaded(path: Path) -> "Tokenizer":
    import tokenizers

    try:
        return tokenizers.Tokenizer.from_str(path.read_text())
    except OSError as error:
        raise BadWorkload(f"tokenizer: {path}: {(error.strerror or '').lower()}") from error
    except Exception as error:  # noqa: BLE001  (the library raises nothing narrower)
        line = str(error).splitlines()[0]
        raise BadWorkload(f"tokenizer: {path} is no tokenizer.json: {line}") from None


def _length(tokenizer: "Tokenizer", text: str) -> int:
    return len(tokenizer.encode(text, add_special_tokens=False).ids)


def token_counter(path: Path | None) -> Callable[[str], int]:
    """How many tokens a text has; without a tokenizer four for three words, as English has."""
    if path is None:
        return lambda text: round(len(text.split()) * 4 / 3)
    tokenizer = _loaded(path)
    return lambda text: _length(tokenizer, text)


def _single_tokens(path: Path) -> list[bytes]:
    """Words that are one token wherever they stand, of ours and of the tokenizer's own."""
    tokenizer = _loaded(path)
    bare = (token.lstrip("Ġ▁") for token in sorted(tokenizer.get_vocab()))
    own = (word for word in bare if word.isascii() and word.isalpha() and len(word) > 1)
    words = dict.fromkeys((*WORDS, *own))
    single = [
        word.encode()
        for word in words
        if _length(tokenizer, word) == 1 and _length(tokenizer, f"{word} {word}") == 2
    ]
    if len(single) < _PIECES_MIN:
        raise BadWorkload(
            f"tokenizer: {path} has {len(single)} words that stay one token beside others, "
            f"{_PIECES_MIN} are needed for text of exact lengths: use prompt=token_ids"
        )
    return single


def _check_exact(path: Path, pool: TokenPool) -> None:
    tokenizer = _loaded(path)
    for number, length in enumerate(_CHECKED_LENGTHS):
        got = _length(tokenizer, pool.distinct(number, length).decode())
        if got != length:
            raise BadWorkload(
                f"tokenizer: {path} makes {got} tokens of {length} words: text of exact lengths "
                "can't be had from it, use prompt=token_ids"
            )
