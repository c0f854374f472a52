"""Answers with a known truth: a reference, and copies of it in which each token flips with a given chance."""

import random
from collections.abc import Sequence

from tuner.trial.quality.answers import Answer, Answers

PROMPTS = "0123456789abcdef"


def reference(prompts: int = 64, tokens: int = 32, seed: int = 1) -> list[Answer]:
    rng = random.Random(seed)
    return [
        Answer(
            tokens=[f"t{rng.randrange(1000)}" for _ in range(tokens)],
            logprobs=[-rng.random() for _ in range(tokens)],
            margins=[rng.random() for _ in range(tokens)],
            ended=False,
        )
        for _ in range(prompts)
    ]


def flipped(
    answers: Sequence[Answer], chance: float, seed: int, drift: float = 0.0
) -> list[Answer]:
    """A token after another flips with the chance; after a flip everything differs."""
    rng = random.Random(seed)
    found = []
    for answer in answers:
        tokens, away = list[str](), False
        for token in answer.tokens:
            away = away or rng.random() < chance
            tokens.append(f"x{rng.randrange(1000)}" if away else token)
        logprobs = [value + rng.choice((-drift, drift)) for value in answer.logprobs]
        found.append(answer.model_copy(update={"tokens": tokens, "logprobs": logprobs}))
    return found


def answered(first: list[Answer], again: list[Answer] | None = None) -> Answers:
    return Answers(prompts=PROMPTS, first=first, again=first if again is None else again)
