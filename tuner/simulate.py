"""A trial on the twin's virtual clock: the same flags, the same load, the same score, and no waiting."""

import numpy as np

from loadgen.virtual import Sent
from serving.twin.emulation import Emulation
from serving.twin.request import Request

WORD = " token"


class TwinServer:
    """An emulation as `loadgen.virtual` drives it. `stream_interval`: tokens an event, after the first."""

    def __init__(
        self, emulation: Emulation, *, stream_interval: int = 1, block_tokens: int | None = None
    ) -> None:
        self.emulation = emulation
        self._interval, self._block_tokens = stream_interval, block_tokens
        self._sent: dict[Request, Sent] = {}
        self._requests: dict[Sent, Request] = {}
        self._count = 0

    @property
    def next_s(self) -> float | None:
        return self.emulation.next_s

    def send(self, sent: Sent, at_s: float) -> None:
        tokens, blocks = prompt_of(sent, self._block_tokens)
        request = Request(self._count, tokens, sent.ask.output_tokens, blocks)
        self._count += 1
        self._sent[request], self._requests[sent] = sent, request
        sent.input_tokens = tokens
        self.emulation.submit(request, at_s)

    def advance(self) -> list[Sent]:
        answered = []
        for request in self.emulation.advance().done:
            sent = self._sent.pop(request, None)
            if sent is not None:
                del self._requests[sent]
                self._fill(sent, request)
                answered.append(sent)
        return answered

    def abandon(self, sent: Sent) -> None:
        request = self._requests.pop(sent)
        del self._sent[request]
        self.emulation.abandon(request)
        self._fill(sent, request)

    def _fill(self, sent: Sent, request: Request) -> None:
        times_s, tokens = request.output()
        if self._interval > 1 and len(times_s) > 1:
            times_s, tokens = coalesced(times_s, tokens, self._interval)
        sent.times_s, sent.tokens = times_s, tokens
        sent.end_s = self.emulation.now_s
        sent.error = request.refused
        sent.text = WORD * request.made


def prompt_of(sent: Sent, block_tokens: int | None) -> tuple[int, tuple[int, ...]]:
    """Its length as the wall-clock twin counts it, and the hashes of its full blocks."""
    ask = sent.ask
    tokens = ask.input_tokens if ask.input_tokens is not None else -(-len(ask.prompt) // 4)
    if not block_tokens:
        return tokens, ()
    size = max(1, len(ask.prompt) * block_tokens // max(1, tokens))
    hashes, last = [], 0
    for index in range(tokens // block_tokens):
        last = hash((last, ask.prompt[index * size : (index + 1) * size]))
        hashes.append(last)
    return tokens, tuple(hashes)


def coalesced(
    times_s: "np.ndarray[tuple[int], np.dtype[np.float64]]",
    tokens: "np.ndarray[tuple[int], np.dtype[np.int32]]",
    interval: int,
) -> tuple[
    "np.ndarray[tuple[int], np.dtype[np.float64]]", "np.ndarray[tuple[int], np.dtype[np.int32]]"
]:
    """Events of `interval` tokens: the first output goes out at once, what is left over at the end."""
    total = np.cumsum(tokens)
    group = (total - total[0]) // interval
    ends = np.append(np.flatnonzero(np.diff(group)) + 1, len(tokens) - 1)
    ends = np.unique(np.concatenate(([0], ends)))
    counts = np.diff(total[ends], prepend=0)
    return times_s[ends], counts.astype(np.int32)
