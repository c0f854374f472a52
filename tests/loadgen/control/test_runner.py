"""The whole load generator against a server that logs what it received and sent."""

import socket
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import loadgen
from loadgen import Closed, Poisson, Workload
from loadgen.http.response import Outcome
from loadgen.results.stats import LevelStats, summarize
from tests.loadgen.fake_server import Behaviour, fake_server

pytestmark = [pytest.mark.process, pytest.mark.alone]


def workload(**changes: Any) -> Workload:
    base: dict[str, Any] = {
        "name": "test",
        "input_tokens": 5,
        "output_tokens": 8,
        "arrival": Closed(concurrency=(2,)),
        "warmup_s": 0.05,
        "level_s": 0.25,
        "level_max_s": 2.0,
        "request_timeout_s": 5.0,
    }
    return Workload(**base | changes)


def one(behaviour: Behaviour, **changes: Any) -> tuple[loadgen.Level, LevelStats]:
    with fake_server(behaviour) as server:
        report = loadgen.run(server.url, "fake", workload(**changes))
    (level,) = report.levels
    return level, summarize(level)


TRAPS = {
    "plain": Behaviour(),
    "content length": Behaviour(framing="length"),
    "until close": Behaviour(framing="until_close"),
    "announces its close": Behaviour(close="announced"),
    "resets what is used again": Behaviour(close="silent"),
    "CRLF and comments": Behaviour(line_end=b"\r\n", comments=True),
    "split at every byte": Behaviour(fragment=1, itl_s=0),
    "split with CRLF": Behaviour(fragment=3, itl_s=0, line_end=b"\r\n"),
    "coalesced": Behaviour(itl_s=0),
    "one event more than tokens": Behaviour(silent_finish=True),
    "usage in the last event": Behaviour(usage="last"),
    "several tokens an event": Behaviour(tokens_per_event=4),
    "HTTP/1.0": Behaviour(preface=b"HTTP/1.0 200 OK", framing="until_close"),
    "100 first": Behaviour(preface=b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK"),
}


@pytest.mark.parametrize("endpoint", ["completions", "chat"])
@pytest.mark.parametrize("trap", TRAPS)
def test_tokens_are_counted_right_over_every_kind_of_wire(trap: str, endpoint: str) -> None:
    prompt = "text" if endpoint == "chat" else "token_ids"
    level, stats = one(TRAPS[trap], endpoint=endpoint, prompt=prompt)
    records = level.records
    assert records.errors == ("",)
    assert not records.failed.any()
    whole = records.completed
    assert set(records.output_tokens[whole].tolist()) == {8}
    assert set(records.events[whole].tolist()) == {2 if trap == "several tokens an event" else 8}
    assert stats.metrics["error_rate"] == 0
    assert stats.metrics["requests_completed"] > 3
    if endpoint == "completions":
        assert stats.metrics["input_tokens_mean"] == 5


def server_reasons(stats: LevelStats) -> list[str]:
    """Without reasons of the client, which a busy machine may cause."""
    return [each for each in stats.invalid_because if not each.startswith("the client")]


def test_a_chunk_with_the_role_alone_is_no_token() -> None:
    behaviour = Behaviour(role_first=True, itl_s=0.01)
    level, stats = one(behaviour, endpoint="chat", prompt="text")
    assert set(level.records.events[level.records.completed].tolist()) == {8}
    assert stats.metrics["ttft_p50_ms"] > 10


def test_stamps_agree_with_the_server() -> None:
    with fake_server(Behaviour(ttft_s=0.02, itl_s=0.04)) as server:
        report = loadgen.run(server.url, "fake", workload(level_s=1.0))
        truth = sorted(server.served, key=lambda s: s.received_ns)
    records = report.levels[0].records
    order = np.argsort(records.sent_ns)
    for served, row in zip(truth, order, strict=True):
        stamps = records.event_ns[records.event_offsets[row] : records.event_offsets[row + 1]]
        assert records.sent_ns[row] <= served.received_ns
        assert (stamps >= np.array(served.sent_ns)[: len(stamps)]).all()
    late_ms = [
        np.median(
            records.event_ns[records.event_offsets[row] : records.event_offsets[row + 1]]
            - np.array(served.sent_ns)
        )
        / 1e6
        for served, row in zip(truth, order, strict=True)
        if records.completed[row]
    ]
    assert np.median(late_ms) < 20  # nearer its own event than the next


def test_closed_loop_keeps_exactly_its_users_busy() -> None:
    with fake_server(Behaviour()) as server:
        report = loadgen.run(server.url, "fake", workload(arrival=Closed(concurrency=(1, 3, 6))))
        assert server.most_in_flight == 6
        assert server.connections == 1 + 3 + 6
    for level in report.levels:
        assert summarize(level).metrics["steady_share"] == 1.0
        assert len(set(level.records.slot.tolist())) == level.concurrency
        due = [level.records.due_ns[level.records.slot == s] for s in range(level.concurrency or 0)]
        ends = [
            level.records.end_ns[level.records.slot == s] for s in range(level.concurrency or 0)
        ]
        for mine, done in zip(due, ends, strict=True):
            assert (np.sort(mine)[1:] == np.sort(done)[:-1]).all()  # the next is due at once


def test_throughput_is_that_of_the_server() -> None:
    level, stats = one(
        Behaviour(ttft_s=0.01, itl_s=0.004), arrival=Closed(concurrency=(4,)), level_s=0.6
    )
    e2e_s = float(np.median(level.records.end_ns - level.records.due_ns)) / 1e9
    assert stats.metrics["throughput_output_tok_s"] == pytest.approx(4 * 8 / e2e_s, rel=0.15)
    tpot_ms = stats.metrics["tpot_p50_ms"]
    assert tpot_ms is not None
    assert stats.metrics["interactivity_tok_s_user"] == pytest.approx(1e3 / tpot_ms)


def test_more_users_than_places_wait_by_littles_law() -> None:
    """Until each had an answer the queue still fills, and latencies are those of fewer users."""
    behaviour = Behaviour(workers=1, ttft_s=0.05, itl_s=0)
    _, stats = one(behaviour, arrival=Closed(concurrency=(10,)), level_s=0.3, level_max_s=8)
    assert server_reasons(stats) == []
    requests_s, e2e_ms = stats.metrics["throughput_requests_s"], stats.metrics["e2e_mean_ms"]
    assert requests_s is not None
    assert e2e_ms is not None
    assert requests_s * e2e_ms / 1e3 == pytest.approx(10, rel=0.15)


def test_a_level_that_ends_before_all_had_an_answer_is_invalid() -> None:
    behaviour = Behaviour(workers=1, ttft_s=0.1, itl_s=0)
    arrival = Closed(concurrency=(16,))
    level, stats = one(behaviour, arrival=arrival, level_s=0.3, level_max_s=0.5)
    assert "waiting for their first answer" in level.unsettled
    assert any("first answer" in doubt for doubt in stats.invalid_because)


def test_every_prompt_has_the_asked_length_and_a_unique_beginning() -> None:
    with fake_server(Behaviour(itl_s=0)) as server:
        loadgen.run(server.url, "m", workload(), vocabulary=4000)
        bodies = [served.body for served in server.served]
    assert {len(body["prompt"]) for body in bodies} == {5}
    assert len({tuple(body["prompt"][:3]) for body in bodies}) == len(bodies)
    assert all(0 <= token < 4000 for body in bodies for token in body["prompt"])
    body = bodies[0]
    assert body["model"] == "m"
    assert body["max_tokens"] == 8
    assert body["stream"] is body["ignore_eos"] is True
    assert body["stream_options"] == {"include_usage": True}


def test_open_loop_charges_a_stall_to_the_requests_that_fell_due_in_it() -> None:
    """Counted from sending, few requests are slow; counted from due, all in the stall are."""
    behaviour = Behaviour(stall=(0.3, 0.8), itl_s=0)
    arrival = Poisson(rate_per_s=(200,), max_concurrency=4)
    level, stats = one(behaviour, arrival=arrival, level_s=1.0, warmup_s=0.1)
    assert stats.metrics["error_rate"] == 0
    # Half of the window's arrivals met the stall; the wait falls evenly between 0 and 500 ms.
    assert stats.metrics["ttft_p90_ms"] > 250
    from_send_ms = (level.records.first_ns - level.records.sent_ns) / 1e6
    assert np.percentile(from_send_ms, 90) < 200


def test_open_loop_sends_on_time() -> None:
    level, stats = one(Behaviour(), arrival=Poisson(rate_per_s=(100,)), level_s=0.6)
    assert level.load == "poisson 100/s"
    assert np.median(level.records.sent_ns - level.records.due_ns) < 10e6
    assert stats.metrics["throughput_requests_s"] == pytest.approx(100, rel=0.5)


def test_a_growing_queue_is_reported() -> None:
    behaviour = Behaviour(workers=1, ttft_s=0.02, itl_s=0)
    _, stats = one(behaviour, arrival=Poisson(rate_per_s=(120,)), level_s=0.5)
    assert any("queue grew" in doubt for doubt in stats.invalid_because)


def test_a_level_continues_until_it_has_its_requests() -> None:
    level, stats = one(Behaviour(), level_s=0.05, min_requests=30)
    assert stats.metrics["requests_completed"] >= 30
    level, stats = one(Behaviour(ttft_s=0.1), level_s=0.05, min_requests=100, level_max_s=0.3)
    assert level.window.seconds < 0.5


def test_error_replies_end_the_load_with_their_message() -> None:
    body = b'{"error": {"message": "no such model"}}'
    with (
        fake_server(Behaviour(status=404, error_body=body)) as server,
        pytest.raises(loadgen.EndpointErrors, match="HTTP 404: no such model") as caught,
    ):
        loadgen.run(server.url, "fake", workload())
    assert caught.value.status == 404


def test_a_key_that_the_endpoint_repeats_is_not_passed_on() -> None:
    body = b'{"error": {"message": "Incorrect API key provided: sk-secret"}}'
    with (
        fake_server(Behaviour(status=401, error_body=body)) as server,
        pytest.raises(loadgen.EndpointErrors, match=r"provided: \*\*\*$"),
    ):
        loadgen.run(server.url, "fake", workload(), api_key="sk-secret")


@pytest.mark.parametrize("more", ["?a=b", "#part"])
def test_parts_of_a_url_that_are_not_sent_are_refused(more: str) -> None:
    with pytest.raises(loadgen.BadTarget, match="they are not sent"):
        loadgen.run(f"http://127.0.0.1:1/v1{more}", "fake", workload())


def test_refused_token_ids_are_an_error_of_their_own() -> None:
    with (
        fake_server(
            Behaviour(status=400, error_body=b'{"detail": "prompt must be a string"}')
        ) as s,
        pytest.raises(loadgen.PromptRefused, match=r"must be a string .*token ids"),
    ):
        loadgen.run(s.url, "fake", workload())


def test_an_unreachable_endpoint() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # bound and not listening: refuses
        port = held.getsockname()[1]
        with pytest.raises(loadgen.EndpointUnreachable, match="connection refused"):
            loadgen.run(f"127.0.0.1:{port}", "fake", workload())


def test_a_server_that_never_answers_costs_no_more_than_the_timeout() -> None:
    begin = time.perf_counter()
    with (
        fake_server(Behaviour(hang=True)) as server,
        pytest.raises(loadgen.EndpointErrors, match=r"no whole reply within 0.3 s"),
    ):
        loadgen.run(server.url, "fake", workload(request_timeout_s=0.3))
    assert time.perf_counter() - begin < 30


@pytest.mark.parametrize(
    ("behaviour", "line"),
    [
        (Behaviour(cut_after=3), "connection lost"),
        (Behaviour(error_after=3), "error in the stream: out of blocks"),
    ],
)
def test_streams_that_break_off(behaviour: Behaviour, line: str) -> None:
    with fake_server(behaviour) as server, pytest.raises(loadgen.EndpointErrors, match=line):
        loadgen.run(server.url, "fake", workload())


def test_occasional_failures_are_counted_and_have_no_latency() -> None:
    """The server takes 0.5 s to answer what falls into its stall; those requests time out."""
    behaviour = Behaviour(stall=(0.2, 0.7))
    level, stats = one(behaviour, level_s=1.2, request_timeout_s=0.2)
    failed, ends_ns = level.records.failed, level.records.end_ns
    assert set(level.records.outcome[failed].tolist()) == {Outcome.TIMED_OUT}
    inside = (ends_ns >= level.window.start_ns) & (ends_ns < level.window.end_ns)
    whole = level.records.completed & inside
    count, e2e_ns = np.count_nonzero(failed & inside), level.records.last_ns - level.records.due_ns
    assert 0 < stats.metrics["requests_failed"] == count
    assert stats.metrics["error_rate"] == pytest.approx(count / (count + whole.sum()))
    assert stats.metrics["e2e_mean_ms"] == pytest.approx(e2e_ns[whole].mean() / 1e6)


def test_stop_ends_a_load_early_and_keeps_its_records() -> None:
    seen: list[loadgen.Progress] = []
    begin = time.perf_counter()
    with fake_server() as server:
        report = loadgen.run(
            server.url,
            "fake",
            workload(level_s=30, level_max_s=60),
            on_progress=seen.append,
            stop=lambda: len(seen) >= 4,
        )
    assert time.perf_counter() - begin < 20  # of 30
    assert report.stopped
    stats = summarize(report.levels[0])
    assert stats.metrics["requests_failed"] == 0
    assert server_reasons(stats) == ["the load was stopped early"]
    assert {progress.phase for progress in seen} <= {"warmup", "measure", "drain"}
    assert seen[-1].expected_s == pytest.approx(30.05)


def test_without_usage_a_level_is_invalid() -> None:
    level, stats = one(Behaviour(usage="no"))
    assert set(level.records.output_tokens.tolist()) == {-1}
    assert stats.metrics["throughput_output_tok_s"] > 0
    assert stats.metrics["throughput_total_tok_s"] is None
    assert any("no usage" in doubt for doubt in stats.invalid_because)


def test_a_data_set_that_is_too_small_is_reported(tmp_path: Path) -> None:
    file = tmp_path / "few.jsonl"
    file.write_text('{"prompt": "a", "output_tokens": 2}\n{"prompt": "b", "output_tokens": 3}\n')
    dataset = {"kind": "jsonl", "path": file}
    level, stats = one(
        Behaviour(), dataset=dataset, input_tokens=None, output_tokens=None, prompt="text"
    )
    assert level.reused_prompts == len(level.records) - 2
    assert "sent again" in stats.reasons["ttft_p50_ms"]
