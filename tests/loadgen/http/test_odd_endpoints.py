"""What endpoints were seen to send, over real sockets: what is a token, a count, a failure."""

import gzip
import json
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import loadgen
from loadgen import Closed, EndpointErrors, Level, Workload
from loadgen.http.response import Outcome
from loadgen.results.stats import LevelStats, summarize
from loadgen.worker.group import forked_links
from tests.loadgen.odd_server import (
    NEXT_S,
    Answer,
    OddServer,
    Part,
    Script,
    event,
    odd_server,
    said,
    stream,
)

pytestmark = pytest.mark.process

TOKENS, REQUESTS = 8, 6
Body = dict[str, Any]


def workload(endpoint: str, **changes: Any) -> Workload:
    base: dict[str, Any] = {
        "name": "odd",
        "endpoint": endpoint,
        "prompt": "text",
        "input_tokens": 8,
        "output_tokens": TOKENS,
        "arrival": Closed(concurrency=(2,)),
        "max_requests": REQUESTS,
        "warmup_s": 0.0,
        "request_timeout_s": 20.0,
    }
    return Workload.model_validate(base | changes)


def measured(
    script: Script, endpoint: str = "chat", **changes: Any
) -> tuple[Level, LevelStats, OddServer]:
    with odd_server(script) as server:
        load = workload(endpoint, **changes)
        report = loadgen.run(server.url, "odd", load, links=forked_links)
    (level,) = report.levels
    return level, summarize(level), server


def about(stats: LevelStats) -> list[str]:
    """Reasons about the responses: those of the client and of so short a window left out."""
    return [reason for reason in stats.invalid_because if "responses" in reason]


def assert_true_times(level: Level, server: OddServer, tokens: int = TOKENS) -> None:
    """Each event was received after it was sent, and the first one is the first token."""
    records = level.records
    assert records.errors == ("",)
    assert set(records.events.tolist()) == {tokens}
    order = np.argsort(records.sent_ns, kind="stable")
    sent = sorted(asked.sent_ns for asked in server.asked)
    assert (np.sort(records.first_ns) >= np.array([each[0] for each in sent])).all()
    assert len(order) == len(sent)


ENDPOINTS = pytest.mark.parametrize("endpoint", ["chat", "completions"])

# --- what counts as output

SILENT: dict[str, Callable[[Body], Answer]] = {
    "an empty text at once": lambda b: stream(b, early=[event(said("messages" in b, ""))]),
    "a role with an empty text, twice": lambda b: stream(
        b, early=[event(said(True, "", role="assistant"))] * 2
    ),
    "null in place of a text": lambda b: stream(
        b, early=[event({"choices": [{"delta": {"content": None}, "text": None}]})]
    ),
    "empty parts": lambda b: stream(
        b, early=[event({"choices": [{"delta": {"content": [{"type": "text", "text": ""}]}}]})]
    ),
    "empty reasoning and calls": lambda b: stream(
        b, early=[event(said(True, "", reasoning_content="", reasoning="", tool_calls=[]))]
    ),
    "empty texts between the tokens": lambda b: stream(
        b, between=lambda chat, i: [event(said(chat, ""))]
    ),
    "an empty text long after the last token": lambda b: stream(
        b, late=[Part(event(said("messages" in b, "")), 0.05)]
    ),
    "an Azure filter result": lambda b: stream(
        b,
        early=[event({"id": "", "choices": [], "prompt_filter_results": [{"prompt_index": 0}]})],
        late=[Part(event({"choices": [{"index": 0, "content_filter_offsets": {"a": 1}}]}), 0.05)],
    ),
}


@ENDPOINTS
@pytest.mark.parametrize("kind", SILENT)
def test_an_empty_text_is_no_token(kind: str, endpoint: str) -> None:
    level, stats, server = measured(lambda body, number: SILENT[kind](body), endpoint)
    assert_true_times(level, server)
    assert about(stats) == []
    assert (level.records.last_ns <= level.records.first_ns + 10**9 * NEXT_S * 1000).all()


KNOWN = ["reasoning_content", "reasoning", "thinking", "refusal", "reasoning_text"]


@pytest.mark.parametrize("name", KNOWN)
def test_output_under_other_known_names_counts(name: str) -> None:
    def script(body: Body, number: int) -> Answer:
        return stream(body, token=lambda chat, i: said(True, "", **{name: f" w{i}"}))

    level, stats, server = measured(script)
    assert_true_times(level, server)
    assert about(stats) == []


def test_a_tool_call_counts() -> None:
    def call(chat: bool, index: int) -> object:
        function = {"name": "find"} if not index else {"arguments": f'"{index}'}
        return said(True, "", tool_calls=[{"index": 0, "function": function}])

    level, _, server = measured(lambda body, number: stream(body, token=call, finish="tool_calls"))
    assert_true_times(level, server)


@pytest.mark.parametrize("every", [2, 1])
def test_text_under_an_unknown_name_raises_a_doubt(every: int) -> None:
    def token(chat: bool, index: int) -> object:
        return said(True, "", musings="hm") if index % every == 0 else said(True, " a")

    def script(body: Body, number: int) -> Answer:
        return stream(body, token=token)

    if every == 1:
        with pytest.raises(EndpointErrors, match=r"no output.*delta\.musings"):
            measured(script)
        return
    _, stats, _ = measured(script)
    assert any("delta.musings" in reason for reason in about(stats))


# --- usage that can't be true


def counted(tokens: int, **more: Any) -> Body:
    return {"prompt_tokens": 8, "completion_tokens": tokens, **more}


def with_usage(count: Callable[[int], int]) -> Callable[[bool, int], object]:
    return lambda chat, i: said(chat, f" w{i}") | {"usage": counted(count(i))}


REASONING = {"completion_tokens_details": {"reasoning_tokens": 100}}
IMPOSSIBLE: dict[str, tuple[Callable[[Body], Answer], str]] = {
    "hidden reasoning": (
        lambda b: stream(b, usage=counted(TOKENS + 100, **REASONING)),
        "never streamed",
    ),
    "hidden reasoning, not declared": (
        lambda b: stream(b, usage=counted(TOKENS + 100)),
        "more tokens",
    ),
    "one token in all": (lambda b: stream(b, usage=counted(1)), "fewer tokens"),
    "one token in each event": (
        lambda b: stream(b, token=with_usage(lambda i: 1), usage=None),
        "fewer tokens",
    ),
    "the sum of running counts": (
        lambda b: stream(b, usage=counted(TOKENS * (TOKENS + 1) // 2)),
        "more tokens",
    ),
    "falling counts": (
        lambda b: stream(b, token=with_usage(lambda i: TOKENS - i), usage=None),
        "fewer tokens",
    ),
    "no tokens": (lambda b: stream(b, usage=counted(0)), "fewer tokens"),
}


@pytest.mark.parametrize("kind", IMPOSSIBLE)
def test_usage_that_contradicts_the_events_makes_a_level_doubtful(kind: str) -> None:
    answer, reason = IMPOSSIBLE[kind]
    level, stats, server = measured(lambda body, number: answer(body))
    assert_true_times(level, server)
    assert set(level.records.output_tokens.tolist()) == {TOKENS}
    assert any(reason in each for each in about(stats))
    spans_ns = [each.sent_ns[-1] - each.sent_ns[0] for each in server.asked]
    assert (stats.metrics["tpot_mean_ms"] or 0) > min(spans_ns) / 1e6 / (TOKENS - 1) / 2


POSSIBLE: dict[str, Callable[[Body], Answer]] = {
    "running counts": lambda b: stream(b, token=with_usage(lambda i: i + 1), usage=None),
    "streamed reasoning": lambda b: stream(
        b,
        token=lambda chat, i: said(True, "", reasoning=f" w{i}") if i < 4 else said(True, "a"),
        usage=counted(TOKENS, completion_tokens_details={"reasoning_tokens": 4}),
    ),
    "several tokens an event": lambda b: stream(
        b, tokens=4, token=lambda chat, i: said(chat, " two words"), usage=counted(TOKENS)
    ),
}


@pytest.mark.parametrize("kind", POSSIBLE)
def test_usage_that_fits_the_events_raises_no_doubt(kind: str) -> None:
    level, stats, _ = measured(lambda body, number: POSSIBLE[kind](body))
    assert about(stats) == []
    assert set(level.records.output_tokens.tolist()) == {TOKENS}


# --- what a finish means


@pytest.mark.parametrize(
    "finish",
    ["abort", "ABORT", "error", "content_filter", "content-filter", "cancelled", "timeout",
     "insufficient_system_resource", {"type": "abort", "message": "gone"}],
    ids=str,
)  # fmt: skip
def test_a_finish_by_which_the_engine_gave_up_is_a_failure(finish: object) -> None:
    def script(body: Body, number: int) -> Answer:
        return stream(body, tokens=2, finish=finish) if number % 3 == 2 else stream(body)

    level, _, _ = measured(script)
    gave_up = level.records.outcome == Outcome.ABORTED
    assert gave_up.sum() == REQUESTS // 3
    assert "the engine gave up: finish_reason" in level.records.errors[1]
    assert level.records.completed.sum() == REQUESTS - REQUESTS // 3
    assert set(level.records.events[~gave_up].tolist()) == {TOKENS}


@pytest.mark.parametrize(
    "finish", ["stop", "STOP", "eos_token", {"type": "length", "length": 8}], ids=str
)
def test_a_finish_that_completes(finish: object) -> None:
    level, stats, server = measured(lambda body, number: stream(body, finish=finish))
    assert_true_times(level, server)
    assert about(stats) == []


def test_an_unknown_finish_raises_a_doubt() -> None:
    level, stats, _ = measured(lambda body, number: stream(body, finish="ran_dry"))
    assert level.records.completed.all()
    assert any("'ran_dry' is not known" in reason for reason in about(stats))


# --- errors of status 200

JSON = (("Content-Type", "application/json"),)


def document(value: object) -> Answer:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return Answer([Part(data)], JSON, length=True)


LOADING = {"message": "model is loading", "code": 503}
ERRORS: dict[str, tuple[Callable[[Body], Answer], Outcome]] = {
    "an error": (lambda b: document({"error": LOADING}), Outcome.STREAM_ERROR),
    "an error as text": (lambda b: document({"error": "model is loading"}), Outcome.STREAM_ERROR),
    "an error object": (
        lambda b: document({"object": "error", "message": "model is loading"}),
        Outcome.STREAM_ERROR,
    ),
    "a detail": (lambda b: document({"detail": "model is loading"}), Outcome.STREAM_ERROR),
    "a page": (lambda b: document(b"<html>model is loading"), Outcome.MALFORMED),
    "nothing": (lambda b: document(b""), Outcome.MALFORMED),
    "an error first": (
        lambda b: Answer([Part(event({"error": LOADING}))]),
        Outcome.STREAM_ERROR,
    ),
    "an error event": (
        lambda b: Answer([Part(b"event: error\n" + event(LOADING))]),
        Outcome.STREAM_ERROR,
    ),
    "an error without its key": (lambda b: Answer([Part(event(LOADING))]), Outcome.STREAM_ERROR),
    "an error in a choice": (
        lambda b: Answer([Part(event({"choices": [{"error": LOADING, "finish_reason": "error"}]}))]),
        Outcome.STREAM_ERROR,
    ),
    "an empty stream": (lambda b: Answer([Part(b"data: [DONE]\n\n")]), Outcome.MALFORMED),
    "a stream without text": (
        lambda b: Answer([Part(event(said(True, "", "stop"))), Part(b"data: [DONE]\n\n")]),
        Outcome.MALFORMED,
    ),
    "an abort at once": (
        lambda b: Answer([Part(event(said(True, "", "abort"))), Part(b"data: [DONE]\n\n")]),
        Outcome.ABORTED,
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", ERRORS)
def test_an_error_of_status_200_is_a_failure_and_no_storm(kind: str) -> None:
    answer, outcome = ERRORS[kind]
    with odd_server(lambda body, number: answer(body)) as server:
        load = workload("chat", arrival=Closed(concurrency=(4,)), max_requests=None, level_s=30)
        with pytest.raises(EndpointErrors):
            loadgen.run(server.url, "odd", load, links=forked_links)
    assert len(server.asked) < 30, "ten failures in a row, each after a pause, end the level"

    def some(body: Body, number: int) -> Answer:
        return answer(body) if number % 3 == 2 else stream(body)

    level, _, _ = measured(some)
    failed = level.records.outcome == outcome
    assert (failed.sum(), level.records.completed.sum()) == (2, REQUESTS - 2)


def test_an_error_after_some_tokens_is_a_failure() -> None:
    def script(body: Body, number: int) -> Answer:
        usual = stream(body)
        return Answer([*usual.parts[:3], Part(event({"error": LOADING}))]) if number % 2 else usual

    level, _, _ = measured(script)
    failed = level.records.outcome == Outcome.STREAM_ERROR
    assert failed.sum() == REQUESTS // 2
    assert set(level.records.events[failed].tolist()) == {3}


# --- read as others read it


def compressed(body: Body, coding: str) -> Answer:
    bits = {"gzip": 31, "deflate": 15, "deflate without a header": -15}[coding]
    packer = zlib.compressobj(wbits=bits)
    parts = [
        Part(packer.compress(p.data) + packer.flush(zlib.Z_SYNC_FLUSH), p.after_s, p.token)
        for p in stream(body).parts
    ]
    headers = (
        ("Content-Type", "text/event-stream"),
        ("Content-Encoding", coding.split(maxsplit=1)[0]),
    )
    return Answer([*parts, Part(packer.flush())], headers)


def members(body: Body) -> Answer:
    parts = [Part(gzip.compress(p.data), p.after_s, p.token) for p in stream(body).parts]
    return Answer(parts, (("Content-Type", "text/event-stream"), ("Content-Encoding", "gzip")))


def raw(piece: bytes) -> Callable[[bool, int], object]:
    return lambda chat, i: json.dumps(said(chat, "@")).encode().replace(b"@", piece)


READABLE: dict[str, tuple[Callable[[Body], Answer], str]] = {
    "half of a surrogate pair": (lambda b: stream(b, token=raw(rb"\ud83d")), "surrogate"),
    "NaN": (
        lambda b: stream(b, token=lambda chat, i: said(chat, f" w{i}", logprobs=float("nan"))),
        "NaN",
    ),
    "counts as floats": (
        lambda b: stream(b, usage={"prompt_tokens": 8.0, "completion_tokens": float(TOKENS)}),
        "no whole numbers",
    ),
    "counts as text": (
        lambda b: stream(b, usage={"prompt_tokens": "8", "completion_tokens": str(TOKENS)}),
        "no whole numbers",
    ),
    "a comment as data": (lambda b: stream(b, early=[b"data: : PROCESSING\n\n"]), ""),
    "a ping as data": (lambda b: stream(b, early=[b"data: ping\n\n", b"data: null\n\n"]), "skipped"),
    "no finish": (lambda b: stream(b, finish=None, done=False), "without a finish_reason"),
    "[DONE] with a space": (
        lambda b: stream(b, finish=None, done=False, late=[Part(b"data: [DONE] \n\n")]),
        "",
    ),
    "gzip": (lambda b: compressed(b, "gzip"), ""),
    "gzip in members": (members, ""),
    "deflate": (lambda b: compressed(b, "deflate"), ""),
    "deflate without a header": (lambda b: compressed(b, "deflate without a header"), ""),
    "error: null": (
        lambda b: stream(b, token=lambda chat, i: said(chat, f" w{i}") | {"error": None}),
        "",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", READABLE)
def test_what_other_clients_read_is_read_and_counted(kind: str) -> None:
    answer, oddity = READABLE[kind]
    level, stats, server = measured(lambda body, number: answer(body), "completions")
    assert_true_times(level, server)
    assert set(level.records.output_tokens.tolist()) == {TOKENS}
    assert about(stats) == []
    assert [text for text in stats.oddities if oddity and oddity in text] == list(stats.oddities)
    assert bool(oddity) == bool(stats.oddities)
