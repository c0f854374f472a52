"""Prompts of drawn lengths. No two begin alike, unless a shared prefix is asked for."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loadgen.errors import BadWorkload
from loadgen.prompts.base import Ask
from loadgen.prompts.encoding import Writer
from loadgen.prompts.length_sampling import Lengths, drawn_lengths
from loadgen.workload.lengths import most
from loadgen.workload.workload import Content, Conversation, SharedPrefix

_PREFIX_KEY = 1 << 40  # beyond the number of any request


@dataclass(frozen=True, slots=True, eq=False)
class Synthetic:
    writer: Writer
    inputs: Lengths
    outputs: Lengths
    shared: SharedPrefix | None
    offset: int  # of numbers, so that seeds do not begin alike
    longest_tokens: int
    size: int | None = None
    due_s: NDArray[np.float64] | None = None
    multi_turn: bool = False

    def first(self, number: int) -> Ask:
        length = int(self.inputs[number % len(self.inputs)])
        tokens = self._tokens(number + self.offset, length)
        return Ask(
            self.writer.prompt(tokens),
            int(self.outputs[number % len(self.outputs)]),
            length if self.writer.counted else None,
        )

    def next(self, ask: Ask, answer: str) -> Ask | None:
        return None

    def _tokens(self, number: int, length: int) -> bytes:
        pool = self.writer.pool
        common = round(self.shared.hit_rate * length) if self.shared else 0
        if not self.shared or not common:
            return pool.distinct(number, length)
        prefix = pool.run(_PREFIX_KEY + number % self.shared.prefixes, common)
        own = pool.distinct(number, length - common)
        return pool.separator.join([prefix, own]) if own else prefix


@dataclass(frozen=True, slots=True, eq=False)
class Talk:
    """Conversations: what is said before comes again, the answers as they came."""

    opening: Synthetic
    turns: Lengths
    next_inputs: Lengths
    think_s: float
    longest_tokens: int
    size: int | None = None
    due_s: NDArray[np.float64] | None = None
    multi_turn: bool = True

    def first(self, number: int) -> Ask:
        ask = self.opening.first(number)
        return Ask(ask.prompt, ask.output_tokens, ask.input_tokens, session=number)

    def next(self, ask: Ask, answer: str) -> Ask | None:
        session, turn = ask.session, ask.turn + 1
        if turn >= self.turns[session % len(self.turns)]:
            return None
        writer, outputs = self.opening.writer, self.opening.outputs
        key = session * 31 + turn
        words = writer.pool.run(key, int(self.next_inputs[key % len(self.next_inputs)]))
        prompt = writer.following(ask.prompt, answer, words)
        tokens = int(outputs[key % len(outputs)])
        return Ask(prompt, tokens, None, session, turn, self.think_s)


def synthetic(content: Content, writer: Writer, seed: tuple[int, ...]) -> Synthetic | Talk:
    if content.input_tokens is None or content.output_tokens is None:
        raise BadWorkload("input_tokens and output_tokens are needed where no dataset brings them")
    random = np.random.default_rng(seed)
    inputs = drawn_lengths(content.input_tokens, random)
    outputs = drawn_lengths(content.output_tokens, random)
    offset = int(random.integers(0, 1 << 20))
    longest = most(content.input_tokens) + most(content.output_tokens)
    shared = content.shared_prefix
    plain = Synthetic(writer, inputs, outputs, shared, offset, longest)
    if content.conversation is None:
        return plain
    return _talk(plain, content.conversation, random)


def _talk(plain: Synthetic, how: Conversation, random: np.random.Generator) -> Talk:
    turns = drawn_lengths(how.turns, random)
    inputs = drawn_lengths(how.next_tokens, random)
    more = int(turns.max()) - 1
    longest = plain.longest_tokens + more * (int(inputs.max()) + int(plain.outputs.max()))
    return Talk(plain, turns, inputs, how.think_s, longest)
