"""Random prompts of sampled lengths. No two begin alike, unless a shared prefix is configured."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loadgen.errors import BadWorkload
from loadgen.prompts.base import Request
from loadgen.prompts.encoding import PromptEncoder
from loadgen.prompts.length_sampling import Lengths, sample_lengths
from loadgen.workload.lengths import longest
from loadgen.workload.workload import Content, Conversation, SharedPrefix

_PREFIX_KEY = 1 << 40  # above any request number


@dataclass(frozen=True, slots=True, eq=False)
class SyntheticSource:
    """Single-turn requests of random tokens."""

    encoder: PromptEncoder
    inputs: Lengths
    outputs: Lengths
    shared: SharedPrefix | None
    offset: int  # added to request numbers, so that prompts differ between seeds
    longest_tokens: int
    size: int | None = None
    due_s: NDArray[np.float64] | None = None
    multi_turn: bool = False

    def first(self, number: int) -> Request:
        """Request `number`."""
        length = int(self.inputs[number % len(self.inputs)])
        tokens = self._tokens(number + self.offset, length)
        return Request(
            self.encoder.from_tokens(tokens),
            int(self.outputs[number % len(self.outputs)]),
            length if self.encoder.exact_lengths else None,
        )

    def next(self, request: Request, answer: str) -> Request | None:
        """None: there is one turn."""
        return None

    def _tokens(self, number: int, length: int) -> bytes:
        pool = self.encoder.pool
        common = round(self.shared.hit_rate * length) if self.shared else 0
        if not self.shared or not common:
            return pool.distinct(number, length)
        prefix = pool.slice(_PREFIX_KEY + number % self.shared.prefixes, common)
        own = pool.distinct(number, length - common)
        return pool.separator.join([prefix, own]) if own else prefix


@dataclass(frozen=True, slots=True, eq=False)
class ConversationSource:
    """Multi-turn requests of random tokens; each prompt holds the history, with the answers as generated."""

    opening: SyntheticSource
    turns: Lengths
    next_inputs: Lengths
    think_s: float
    longest_tokens: int
    size: int | None = None
    due_s: NDArray[np.float64] | None = None
    multi_turn: bool = True

    def first(self, number: int) -> Request:
        """The first turn of conversation `number`."""
        request = self.opening.first(number)
        return Request(request.prompt, request.output_tokens, request.input_tokens, session=number)

    def next(self, request: Request, answer: str) -> Request | None:
        """The next turn; None after the last."""
        session, turn = request.session, request.turn + 1
        if turn >= self.turns[session % len(self.turns)]:
            return None
        encoder, outputs = self.opening.encoder, self.opening.outputs
        key = session * 31 + turn
        words = encoder.pool.slice(key, int(self.next_inputs[key % len(self.next_inputs)]))
        prompt = encoder.next_turn(request.prompt, answer, words)
        tokens = int(outputs[key % len(outputs)])
        return Request(prompt, tokens, None, session, turn, self.think_s)


def synthetic_source(
    content: Content, encoder: PromptEncoder, seed: tuple[int, ...]
) -> SyntheticSource | ConversationSource:
    """Conversations where the content has them. Raises BadWorkload if a length is missing."""
    if content.input_tokens is None or content.output_tokens is None:
        raise BadWorkload("input_tokens and output_tokens are required without a dataset")
    random = np.random.default_rng(seed)
    inputs = sample_lengths(content.input_tokens, random)
    outputs = sample_lengths(content.output_tokens, random)
    offset = int(random.integers(0, 1 << 20))
    longest_tokens = longest(content.input_tokens) + longest(content.output_tokens)
    shared = content.shared_prefix
    plain = SyntheticSource(encoder, inputs, outputs, shared, offset, longest_tokens)
    if content.conversation is None:
        return plain
    return _conversation(plain, content.conversation, random)


def _conversation(
    plain: SyntheticSource, config: Conversation, random: np.random.Generator
) -> ConversationSource:
    turns = sample_lengths(config.turns, random)
    inputs = sample_lengths(config.next_tokens, random)
    later_turns = int(turns.max()) - 1
    longest_turn = int(inputs.max()) + int(plain.outputs.max())
    longest_tokens = plain.longest_tokens + later_turns * longest_turn
    return ConversationSource(plain, turns, inputs, config.think_s, longest_tokens)
