"""Completion requests: the fields of their JSON body, and the length of their prompt in tokens.

Token ids are counted exactly. Text counts as one token per four bytes of UTF-8, rounded up: the twin has no
tokenizer, and needs none to compare configurations.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

BYTES_PER_TOKEN = 4
_DIGITS, _SPACE = b"0123456789,", b" \t\r\n"


class BadRequest(Exception):
    """The request is invalid; `kind`: the error's type in the response."""

    def __init__(self, message: str, status: int = 400, kind: str = "BadRequestError") -> None:
        super().__init__(message)
        self.status, self.kind = status, kind


class _Part(msgspec.Struct):
    text: str = ""


class _Message(msgspec.Struct):
    content: str | list[_Part] | None = None


class _Options(msgspec.Struct):
    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None


class _Body(msgspec.Struct):
    model: str | None = None
    prompt: msgspec.Raw = msgspec.Raw(b"")
    messages: list[_Message] = []
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    stream: bool | None = None
    stream_options: _Options | None = None
    n: int | None = None
    best_of: int | None = None


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """What is asked for. `output_tokens`: None without `max_tokens`. `blocks`: hashes for the prefix cache.

    `usage`: with the last event; `continuous_usage`: with every event.
    """

    model: str | None
    chat: bool
    prompt_tokens: int
    output_tokens: int | None
    blocks: Sequence[int]
    stream: bool
    usage: bool
    continuous_usage: bool


_DECODER = msgspec.json.Decoder(_Body)


def parse_request(body: bytes, *, chat: bool, block_tokens: int) -> CompletionRequest:
    """Reads the body of a request. `block_tokens`: 0 without hashes. Raises BadRequest."""
    try:
        fields = _DECODER.decode(body)
    except msgspec.ValidationError as error:
        raise BadRequest(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"the body is not JSON: {error}") from None
    if (fields.n or 1) != 1 or (fields.best_of or 1) != 1:
        raise BadRequest("the twin gives one completion per prompt: n and best_of must be 1")
    if chat:
        tokens, blocks = _of_text(_text_of(fields.messages), block_tokens)
    else:
        tokens, blocks = _of_prompt(bytes(fields.prompt), block_tokens)
    if not tokens:
        raise BadRequest("the prompt is empty" if not chat else "the messages are empty")
    output = (
        fields.max_tokens if fields.max_completion_tokens is None else fields.max_completion_tokens
    )
    if output is not None and output < 1:
        raise BadRequest(f"max_tokens must be at least 1, got {output}.")
    options = fields.stream_options or _Options()
    return CompletionRequest(
        model=fields.model,
        chat=chat,
        prompt_tokens=tokens,
        output_tokens=output,
        blocks=blocks,
        stream=bool(fields.stream),
        usage=bool(options.include_usage),
        continuous_usage=bool(options.include_usage and options.continuous_usage_stats),
    )


def read_prompt(prompt: bytes, *, chat: bool, block_tokens: int) -> tuple[int, Sequence[int]]:
    """(tokens, hashes of its full KV blocks) of a JSON prompt, or of JSON messages for `chat`.

    Each hash stands for the prompt up to the end of its block. `block_tokens`: 0 without hashes.
    """
    if chat:
        messages = msgspec.json.decode(prompt, type=list[_Message])
        return _of_text(_text_of(messages), block_tokens)
    return _of_prompt(prompt, block_tokens)


def _text_of(messages: Sequence[_Message]) -> bytes:
    texts = []
    for each in messages:
        parts = each.content or ""
        texts += [parts] if isinstance(parts, str) else [part.text for part in parts]
    return "\n".join(texts).encode(errors="surrogatepass")


def _of_prompt(raw: bytes, block_tokens: int) -> tuple[int, Sequence[int]]:
    """A string, token ids, or a list of one of these."""
    if raw[:1] == b"[":
        ids = raw[1:-1].translate(None, _SPACE)
        if not ids.translate(None, _DIGITS):
            return _of_ids(ids, block_tokens)
        items = msgspec.json.decode(raw, type=list[msgspec.Raw])
        if len(items) == 1 and bytes(items[0])[:1] in (b"[", b'"'):
            return _of_prompt(bytes(items[0]), block_tokens)
        raise BadRequest("prompt must be one string, or one list of token ids")
    if raw[:1] == b'"':
        text = msgspec.json.decode(raw, type=str)
        return _of_text(text.encode(errors="surrogatepass"), block_tokens)
    raise BadRequest("prompt must be one string, or one list of token ids")


def _of_ids(ids: bytes, block_tokens: int) -> tuple[int, Sequence[int]]:
    """`ids`: token ids as 1,2,3 without spaces."""
    tokens = ids.count(b",") + 1 if ids else 0
    if tokens <= block_tokens or not block_tokens:
        return tokens, ()
    commas = np.flatnonzero(np.frombuffer(ids, np.uint8) == 44)
    return tokens, _chained_hashes(ids, commas[block_tokens - 1 :: block_tokens].tolist())


def _of_text(text: bytes, block_tokens: int) -> tuple[int, Sequence[int]]:
    tokens = -(-len(text) // BYTES_PER_TOKEN)
    if not block_tokens:
        return tokens, ()
    step = BYTES_PER_TOKEN * block_tokens
    return tokens, _chained_hashes(text, range(step, len(text) + 1, step))


def _chained_hashes(content: bytes, ends: Sequence[int]) -> list[int]:
    """A hash per block of the content up to its end."""
    hashes, begin, before = [], 0, 0
    for end in ends:
        before = hash((before, content[begin:end]))
        hashes.append(before)
        begin = end
    return hashes
