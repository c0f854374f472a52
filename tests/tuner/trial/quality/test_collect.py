"""Answers of servers that speak each dialect, and of servers that don't answer."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from serving.endpoint import Endpoint
from tuner.config.groups.quality import QualityPrompts
from tuner.trial.quality.answers import prompts_hash
from tuner.trial.quality.collect import NoAnswers, collect, parsed
from tuner.trial.quality.prompts import prompts

ASKED = QualityPrompts(prompts=12, tokens=4, concurrency=3, timeout_s=30)
Reply = Callable[[dict[str, Any]], tuple[int, bytes]]


def completion(prompt: str) -> bytes:
    """As vLLM 0.32 and SGLang 0.5.23 write it."""
    tokens = [f" {len(prompt)}", ".", " yes"]
    said = {
        "tokens": tokens,
        "token_logprobs": [-0.5, -0.25, -1.0],
        "top_logprobs": [{token: -0.5, "other": -2.0} for token in tokens],
        "text_offset": [0, 4, 5],
    }
    choice = {"index": 0, "text": "".join(tokens), "logprobs": said, "finish_reason": "stop"}
    return json.dumps({"object": "text_completion", "choices": [choice]}).encode()


@contextmanager
def serving(reply: Reply) -> Iterator[tuple[Endpoint, list[dict[str, Any]]]]:
    seen: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["Content-Length"]))
            body = json.loads(raw or b"{}")
            seen.append({**body, "key": self.headers["Authorization"], "path": self.path})
            status, text = reply(body)
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """The client may be gone."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield Endpoint(url, "m", "1", 0, (), 0.0, (), (), api_key="k"), seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_all_prompts_are_answered_greedily_and_twice() -> None:
    with serving(lambda body: (200, completion(body["prompt"]))) as (endpoint, seen):
        answers = collect(endpoint, ASKED)
    texts = prompts(12)
    assert sorted(each["prompt"] for each in seen) == sorted([*texts, *texts])
    asked = {(e["temperature"], e["max_tokens"], e["model"], e["key"], e["path"]) for e in seen}
    assert asked == {(0, 4, "m", "Bearer k", "/v1/completions")}
    assert [each.tokens[0] for each in answers.first] == [f" {len(text)}" for text in texts]
    assert answers.again == answers.first
    assert answers.prompts == prompts_hash(texts, 4)
    assert answers.first[0].margins == [1.5, 1.5, 1.5]


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (
            lambda _: (400, b'{"error": "logprobs are off"}'),
            "a prompt was refused with status 400: {",
        ),
        (lambda _: (200, b"<html>"), "an answer is no completion: <html>"),
        (lambda _: (200, b'{"choices": []}'), 'an answer is no completion: {"choices": []}'),
    ],
)
def test_a_server_that_does_not_answer_is_one_line(reply: Reply, why: str) -> None:
    with serving(reply) as (endpoint, _), pytest.raises(NoAnswers) as failed:
        collect(endpoint, ASKED)
    assert str(failed.value).startswith(why)
    assert "\n" not in str(failed.value)


def test_a_server_that_is_gone_is_one_line() -> None:
    with serving(lambda _: (200, b"")) as (endpoint, _):
        pass
    with pytest.raises(NoAnswers, match=r"^no answer to a prompt: .*refused"):
        collect(endpoint, ASKED)


def test_a_server_that_is_silent_is_waited_for_no_longer_than_said() -> None:
    over = threading.Event()

    def silent(_: dict[str, Any]) -> tuple[int, bytes]:
        over.wait(60)
        return 200, b""

    with serving(silent) as (endpoint, seen):
        began = time.monotonic()
        with pytest.raises(NoAnswers, match=r"^not all prompts were answered in 0\.5 s$"):
            collect(endpoint, ASKED.model_copy(update={"timeout_s": 0.5}))
        waited_s = time.monotonic() - began
        over.set()
    assert waited_s < 30
    assert len(seen) <= ASKED.concurrency  # the rest was never sent


def test_llama_cpp_lists_its_positions() -> None:
    content = [
        {"token": " a", "logprob": -0.1, "top_logprobs": [{"token": " a", "logprob": -0.1}]},
        {
            "token": "b",
            "logprob": -0.2,
            "top_logprobs": [{"token": "b", "logprob": -0.2}, {"token": "c", "logprob": -0.7}],
        },
    ]
    choice = {"text": " ab", "logprobs": {"content": content}, "finish_reason": "length"}
    answer = parsed(json.dumps({"choices": [choice]}).encode(), 2)
    assert (answer.tokens, answer.ended) == ([" a", "b"], False)
    assert answer.margins == [None, pytest.approx(0.5)]


def test_without_log_probabilities_words_are_compared() -> None:
    choice = {"text": " two words", "logprobs": None, "finish_reason": "stop"}
    answer = parsed(json.dumps({"choices": [choice]}).encode(), 8)
    assert (answer.tokens, answer.logprobs, answer.ended) == (["two", "words"], [], True)
