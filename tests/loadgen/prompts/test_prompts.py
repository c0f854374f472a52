"""Prompts: lengths, uniqueness, shared prefixes, conversations, data sets, traces, mixtures."""

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from loadgen import Workload
from loadgen.errors import BadWorkload
from loadgen.prompts.base import Source
from loadgen.prompts.build import build
from loadgen.prompts.length_sampling import sample_lengths
from loadgen.prompts.words import WORDS
from loadgen.workload.lengths import Empirical, LogNormal, Ranged, RangeRatio

VOCABULARY = 32000


def source(**fields: Any) -> Source:
    base = {"name": "test", "arrival": {"kind": "closed", "concurrency": [1]}, "seed": 3}
    return build(Workload.model_validate(base | fields), VOCABULARY)


def ids(prompt: bytes) -> list[int]:
    return msgspec.json.decode(prompt, type=list[int])


def test_token_ids_have_the_exact_length_and_no_two_prompts_begin_alike() -> None:
    made = source(input_tokens={"kind": "ranged", "low": 1, "high": 300}, output_tokens=7)
    prefixes = set()
    for number in range(5000):
        request = made.first(number)
        tokens = ids(request.prompt)
        assert len(tokens) == request.input_tokens
        assert 1000 <= min(tokens) <= max(tokens) < VOCABULARY
        if len(tokens) >= 4:
            prefixes.add(tuple(tokens[:4]))
            assert request.output_tokens == 7
    assert len(prefixes) == sum(len(ids(made.first(n).prompt)) >= 4 for n in range(5000))


def test_prompts_depend_on_number_and_seed_only() -> None:
    one, same = source(input_tokens=50, output_tokens=1), source(input_tokens=50, output_tokens=1)
    other = source(input_tokens=50, output_tokens=1, seed=4)
    for number in (0, 1, 77, 123_456):
        assert one.first(number) == same.first(number)
        assert one.first(number).prompt != other.first(number).prompt


@pytest.mark.parametrize("hit_rate", [0.25, 0.5, 0.9])
def test_shared_prefixes_give_the_configured_hit_rate(hit_rate: float) -> None:
    shared = {"hit_rate": hit_rate, "prefixes": 4}
    lengths = {"kind": "ranged", "low": 100, "high": 200}
    assert reused(source(input_tokens=lengths, output_tokens=1, shared_prefix=shared)) == (
        pytest.approx(hit_rate, abs=0.01)
    )


def test_without_a_shared_prefix_a_prefix_cache_never_hits() -> None:
    assert reused(source(input_tokens=200, output_tokens=1)) < 0.01


def reused(made: Source) -> float:
    """The share of tokens that an ideal prefix cache would hit, token by token."""
    cache: dict[int, Any] = {}
    hits = total = 0
    for number in range(1500):
        here, fresh = cache, False
        for token in ids(made.first(number).prompt):
            fresh = fresh or token not in here
            hits += not fresh
            total += 1
            here = here.setdefault(token, {})
    return hits / total


def byte_level() -> Tokenizer:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    text = [" ".join(WORDS), "".join(f" {word}" for word in WORDS), *WORDS]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        text * 20, trainers.BpeTrainer(vocab_size=2000, initial_alphabet=alphabet)
    )
    return made


def whitespace() -> Tokenizer:
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="time"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return made


@pytest.mark.parametrize("make", [byte_level, whitespace])
def test_text_has_the_exact_length_for_the_tokenizer(make: Any, tmp_path: Path) -> None:
    tokenizer, file = make(), tmp_path / "tokenizer.json"
    tokenizer.save(str(file))
    lengths = {"kind": "ranged", "low": 1, "high": 2000}
    made = source(input_tokens=lengths, output_tokens=1, prompt="text", tokenizer=str(file))
    for number in range(60):
        request = made.first(number)
        text = msgspec.json.decode(request.prompt, type=str)
        assert len(tokenizer.encode(text, add_special_tokens=False).ids) == request.input_tokens


def test_a_tokenizer_without_whole_words_is_refused(tmp_path: Path) -> None:
    tokenizer, file = Tokenizer(models.BPE()), tmp_path / "tokenizer.json"
    tokenizer.train_from_iterator(["ab"], trainers.BpeTrainer(vocab_size=5))
    tokenizer.save(str(file))
    with pytest.raises(BadWorkload, match="use prompt=token_ids"):
        source(input_tokens=5, output_tokens=1, prompt="text", tokenizer=str(file))
    file.write_text("{}")
    with pytest.raises(BadWorkload, match=r"is not a valid tokenizer\.json"):
        source(input_tokens=5, output_tokens=1, prompt="text", tokenizer=str(file))


def test_a_conversation_grows_by_the_answers_as_generated() -> None:
    talk = {"turns": 3, "next_tokens": 4, "think_s": 1.5}
    fields = {"input_tokens": 6, "output_tokens": 9, "prompt": "text", "conversation": talk}
    for endpoint in ("chat", "completions"):
        made = source(endpoint=endpoint, **fields)
        first = made.first(12)
        second = made.next(first, 'I say "no"\n')
        assert second is not None
        third = made.next(second, "again")
        assert third is not None
        assert made.next(third, "done") is None
        assert (second.turn, second.think_s, second.session) == (1, 1.5, 12)
        whole = msgspec.json.decode(third.prompt)
        if endpoint == "chat":
            assert [m["role"] for m in whole] == ["user", "assistant"] * 2 + ["user"]
            assert [m["content"] for m in whole[1::2]] == ['I say "no"\n', "again"]
            assert [len(m["content"].split()) for m in whole[::2]] == [6, 4, 4]
        else:
            assert whole.startswith(msgspec.json.decode(second.prompt) + "again ")


SHAREGPT = [
    {"id": "a", "conversations": [{"from": "gpt", "value": "hello"}]},
    {
        "id": "b",
        "conversations": [
            {"from": "system", "value": "Be brief."},
            {"from": "human", "value": "What is\n1 + 1?"},
            {"from": "gpt", "value": "two words"},
            {"from": "human", "value": 'And "2 + 2"?'},
            {"from": "gpt", "value": "it is the number four"},
        ],
    },
    {"id": "c", "conversations": [{"from": "human", "value": "unanswered"}]},
]


def dataset(kind: str, path: Path, **fields: Any) -> Source:
    return source(dataset={"kind": kind, "path": str(path)}, **fields)


def test_sharegpt(tmp_path: Path) -> None:
    file = tmp_path / "share.json"
    file.write_text(json.dumps(SHAREGPT))
    made = dataset("sharegpt", file, prompt="text", endpoint="chat")
    assert (made.size, made.multi_turn) == (1, True)
    first = made.first(0)
    assert msgspec.json.decode(first.prompt)[0] == {"role": "system", "content": "Be brief."}
    assert first.output_tokens == round(2 * 4 / 3)
    second = made.next(first, "2")
    assert second is not None
    assert msgspec.json.decode(second.prompt)[-1]["content"] == 'And "2 + 2"?'
    assert second.output_tokens == round(5 * 4 / 3)
    assert made.next(second, "4") is None


def test_jsonl(tmp_path: Path) -> None:
    file = tmp_path / "some.jsonl"
    rows = [
        {"prompt": "Say é", "output_tokens": 5},
        {"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]},
    ]
    file.write_text("\n\n".join(json.dumps(row) for row in rows))
    made = dataset("jsonl", file, prompt="text", output_tokens=8)
    assert (made.size, made.multi_turn) == (2, True)
    assert msgspec.json.decode(made.first(0).prompt) == "Say é"
    assert made.first(1).output_tokens == 8
    with pytest.raises(BadWorkload, match=r"some\.jsonl:3: no output_tokens"):
        dataset("jsonl", file, prompt="text")


MOONCAKE = """{"timestamp": 1000, "input_length": 1100, "output_length": 5, "hash_ids": [7, 8, 9]}
{"timestamp": 3500, "input_length": 600, "output_length": 1, "hash_ids": [7, 10]}
"""
AZURE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:17:03.9799600,4808,10
2023-11-16 18:17:04.0319600,110,27
"""
BURSTGPT = """Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type
5,ChatGPT,472,18,490,Conversation log
45,ChatGPT,1087,0,1087,API log
118,GPT-4,417,276,693,Conversation log
"""


def test_mooncake_blocks_of_the_same_id_are_equal(tmp_path: Path) -> None:
    file = tmp_path / "trace.jsonl"
    file.write_text(MOONCAKE)
    made = dataset("mooncake", file)
    assert made.due_s is not None
    assert made.due_s.tolist() == [0.0, 2.5]
    one, two = ids(made.first(0).prompt), ids(made.first(1).prompt)
    assert (len(one), len(two)) == (1100, 600)
    assert one[:512] == two[:512]
    assert one[512:516] != two[512:516]


def test_azure_and_burstgpt(tmp_path: Path) -> None:
    azure, burst = tmp_path / "azure.csv", tmp_path / "burst.csv"
    azure.write_text(AZURE)
    burst.write_text(BURSTGPT)
    made = dataset("azure", azure)
    assert made.due_s == pytest.approx([0, 0.052])
    assert [made.first(i).output_tokens for i in (0, 1)] == [10, 27]
    made = dataset("burstgpt", burst)
    assert made.due_s == pytest.approx([0, 113])  # the failed request is left out
    assert [len(ids(made.first(i).prompt)) for i in (0, 1)] == [472, 417]


@pytest.mark.parametrize(
    ("kind", "text", "line"),
    [
        ("azure", "TIMESTAMP,ContextTokens\n", "f:1: no column 'GeneratedTokens'"),
        ("azure", AZURE + "noon,1,2\n", "f:4: Invalid isoformat string: 'noon"),
        (
            "burstgpt",
            BURSTGPT.replace("472", "many"),
            "f:2: input length: expected 0 to 10,000,000",
        ),
        ("mooncake", MOONCAKE + '{"timestamp": 1}\n', "f:3: missing 'input_length'"),
        ("mooncake", MOONCAKE + "nonsense\n", "f:3: not JSON: expecting value at column 1"),
        ("mooncake", "", "f: no request with output tokens"),
        ("jsonl", '{"prompt": 5}', "f:1: expected a prompt"),
        ("jsonl", '{"prompt": "a", "output_tokens": "x"}', "f:1: output_tokens: expected"),
        ("sharegpt", "{}", "f: expected a list of conversations"),
        ("sharegpt", '[{"id": 1}]', "f: entry 0: expected conversations"),
        ("sharegpt", "[]", "f: no usable conversation"),
    ],
)
def test_errors_in_files_are_one_line_with_file_and_line(
    kind: str, text: str, line: str, tmp_path: Path
) -> None:
    file = tmp_path / "f"
    file.write_text(text)
    words = {"prompt": "text"} if kind in ("jsonl", "sharegpt") else {}
    with pytest.raises(BadWorkload) as caught:
        dataset(kind, file, **words)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)
    file.unlink()
    with pytest.raises(BadWorkload, match="no such file"):
        dataset(kind, file, **words)


def test_a_mixture_keeps_its_shares_and_repeats_no_prompt() -> None:
    parts = [
        {"weight": 3, "input_tokens": 10, "output_tokens": 1},
        {"weight": 1, "input_tokens": 20, "output_tokens": 2},
    ]
    made = source(mixture=parts)
    requests = [made.first(number) for number in range(40_000)]
    counts = [sum(request.output_tokens == tokens for request in requests) for tokens in (1, 2)]
    assert stats.chisquare(counts, [30_000, 10_000]).pvalue > 0.01
    assert len({request.prompt for request in requests}) == len(requests)


def test_a_conversation_in_a_mixture_continues_in_its_own_part() -> None:
    talk = {"turns": 2, "next_tokens": 3}
    parts = [
        {"weight": 1, "input_tokens": 5, "output_tokens": 1, "conversation": talk},
        {"weight": 1, "input_tokens": 6, "output_tokens": 2},
    ]
    made = source(mixture=parts, prompt="text")
    for number in range(20):
        first = made.first(number)
        second = made.next(first, "yes")
        assert (second is not None) == (first.output_tokens == 1)
        if second is not None:
            assert second.session == number
            assert made.next(second, "no") is None


def test_sampled_lengths_follow_their_distributions() -> None:
    random = np.random.default_rng(5)
    ranged = sample_lengths(Ranged(low=3, high=12), random)
    assert stats.chisquare(np.bincount(ranged)[3:]).pvalue > 0.01
    ratio = sample_lengths(RangeRatio(tokens=1024, ratio=0.8), random)
    assert (ratio.min(), ratio.max()) == (819, 1024)
    weighted = sample_lengths(Empirical(values=(5, 9), weights=(1, 3)), random)
    assert stats.binomtest(int((weighted == 9).sum()), len(weighted), 0.75).pvalue > 0.01
    wide = LogNormal(median=500, sigma=0.6, high=100_000)
    samples = sample_lengths(wide, random)
    spread = random.uniform(-0.5, 0.5, len(samples))  # undoes the rounding
    assert stats.kstest(np.log(samples + spread), "norm", (np.log(500), 0.6)).pvalue > 0.01
    assert stats.kstest(np.log(samples + spread), "norm", (np.log(500), 0.65)).pvalue < 0.01


@given(
    median=st.floats(1, 5000),
    sigma=st.floats(0.05, 3),
    low=st.integers(1, 50),
    more=st.integers(0, 999),
)
def test_a_lognormal_stays_within_its_bounds(
    median: float, sigma: float, low: int, more: int
) -> None:
    config = LogNormal(median=median, sigma=sigma, low=low, high=low + more)
    samples = sample_lengths(config, np.random.default_rng(1), 500)
    assert low <= samples.min() <= samples.max() <= low + more
