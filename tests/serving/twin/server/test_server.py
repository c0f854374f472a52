"""The twin over real sockets: exact lengths, no token lost, no block leaked."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from serving.probe import free_port, get, get_json, healthy
from tests.serving.twin.frameworks.test_dialects import parsed

pytestmark = pytest.mark.process

ROOT = Path(__file__).parents[4]
ARGV = {
    "vllm": ["vllm", "serve", "m", "--max-model-len"],
    "sglang": ["sglang", "serve", "--model-path", "m", "--page-size", "16", "--context-length"],
    "trtllm": ["trtllm-serve", "serve", "m", "--max_seq_len"],
}
NAME = {"vllm": "--served-model-name", "sglang": "--served-model-name",
        "trtllm": "--served_model_name"}  # fmt: skip


@dataclass(frozen=True)
class Twin:
    port: int
    process: "subprocess.Popen[str]"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(self, path: str = "/v1/completions", **body: Any) -> tuple[int, str]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request("POST", path, json.dumps({"model": "one", **body}))
            reply = connection.getresponse()
            return reply.status, reply.read().decode()
        finally:
            connection.close()

    def events(self, path: str = "/v1/completions", **body: Any) -> list[Any]:
        status, text = self.ask(path, stream=True, **body)
        assert status == 200, text
        lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
        assert lines.pop() == "[DONE]"
        return [json.loads(line) for line in lines]

    def metrics(self) -> dict[str, float]:
        answer = get(f"{self.url}/metrics")
        assert answer is not None
        return parsed(answer[1].decode())


Start = Callable[..., Twin]


@pytest.fixture
def start() -> Iterator[Start]:
    processes: list[subprocess.Popen[str]] = []

    def started(
        *flags: str, framework: str = "vllm", context: int = 4096, wait: bool = True, **formula: Any
    ) -> Twin:
        port = free_port()
        argv = [*ARGV[framework], str(context), "--host", "127.0.0.1", "--port", str(port)]
        argv += [NAME[framework], "one", *flags]
        command = [
            sys.executable,
            "-m",
            "tests.serving.twin.server.stub",
            json.dumps(formula),
            "--",
        ]
        process = subprocess.Popen([*command, *argv], cwd=ROOT, stderr=subprocess.PIPE, text=True)
        processes.append(process)
        twin = Twin(port, process)
        deadline = time.monotonic() + 30
        while wait and not healthy(f"{twin.url}/health"):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        return twin

    yield started
    for each in processes:
        each.kill()
        each.communicate()


def until(condition: Callable[[], bool], within_s: float = 10.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("framework", ARGV)
def test_a_stream_has_exactly_max_tokens(start: Start, framework: str) -> None:
    twin = start(framework=framework)
    events = twin.events(prompt=[1, 2, 3], max_tokens=20, stream_options={"include_usage": True})
    *tokens, usage = events
    assert [each["choices"][0]["text"] for each in tokens] == [" tok"] * 20
    assert [each["choices"][0]["finish_reason"] for each in tokens] == [None] * 19 + ["length"]
    assert usage["choices"] == []
    assert usage["usage"] == {"prompt_tokens": 3, "completion_tokens": 20, "total_tokens": 23}
    path = {"vllm": "/version", "sglang": "/server_info", "trtllm": "/version"}[framework]
    assert get_json(twin.url + path)["version"].startswith("twin of")


def test_chat_starts_with_a_role_and_reports_continuous_usage(start: Start) -> None:
    twin = start()
    options = {"include_usage": True, "continuous_usage_stats": True}
    opening, *tokens, last = twin.events(
        "/v1/chat/completions",
        messages=[{"role": "user", "content": "x" * 9}],
        max_completion_tokens=4,
        stream_options=options,
    )
    assert opening["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert [each["usage"]["completion_tokens"] for each in tokens] == [1, 2, 3, 4]
    assert last["usage"]["prompt_tokens"] == 3


def test_responses_without_streaming(start: Start) -> None:
    twin = start()
    status, text = twin.ask(prompt="hello world", max_tokens=5)
    response = json.loads(text)
    assert (status, response["choices"][0]["text"]) == (200, " tok" * 5)
    assert response["usage"] == {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
    _, text = twin.ask("/v1/chat/completions", messages=[{"content": "hi"}], max_tokens=1)
    assert json.loads(text)["choices"][0]["message"]["content"] == " tok"


def test_the_stream_interval_groups_tokens(start: Start) -> None:
    twin = start("--stream-interval", "4")
    events = twin.events(prompt=[1], max_tokens=12)
    words = [each["choices"][0]["text"].count("tok") for each in events]
    assert words == [1, 4, 4, 3]


def test_speculation_streams_all_tokens(start: Start) -> None:
    twin = start("--speculative-config", '{"num_speculative_tokens":3}')
    events = twin.events(prompt=[1], max_tokens=100)
    words = [each["choices"][0]["text"].count("tok") for each in events]
    assert sum(words) == 100
    assert max(words) > 1
    assert twin.metrics()["vllm:generation_tokens_total"] == 100


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"model": "two", "prompt": [1]}, 404, "`two` does not exist"),
        ({"prompt": [1] * 4000, "max_tokens": 97}, 400, "maximum context length is 4096"),
        ({"prompt": [1] * 5000}, 400, "5000 input tokens"),
        ({"prompt": [1], "max_tokens": 0}, 400, "max_tokens"),
        ({"prompt": [1], "max_tokens": "many"}, 400, "max_tokens"),
        ({"prompt": [1], "n": 2}, 400, "n and best_of"),
        ({"prompt": [[1], [2]]}, 400, "one string"),
        ({"prompt": []}, 400, "empty"),
        ({"prompt": {"a": 1}}, 400, "one string"),
        ({}, 400, "one string"),
    ],
)  # fmt: skip
def test_invalid_requests_are_rejected_with_a_reason(
    start: Start, body: Any, status: int, message: str
) -> None:
    twin = start()
    got, text = twin.ask(**body)
    assert got == status
    assert message in json.loads(text)["error"]["message"]


def test_http_framing_pipelining_and_limits(start: Start) -> None:
    twin = start()
    body = json.dumps({"prompt": [[1, 2]], "max_tokens": 2}).encode()
    head = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
    with socket.create_connection(("127.0.0.1", twin.port), timeout=10) as sock:
        for byte in head + body:  # one at a time, and the next two requests behind each other
            sock.sendall(bytes([byte]))
        chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        chunked = b"POST /v1/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks
        sock.sendall(head + body + chunked + b"GET /nope HTTP/1.1\r\nConnection: close\r\n\r\n")
        reply = b""
        while read := sock.recv(65536):
            reply += read
    assert reply.count(b"HTTP/1.1 200 OK") == 3
    assert reply.count(b'"completion_tokens":2') == 3
    assert b"404 Not Found" in reply
    with socket.create_connection(("127.0.0.1", twin.port), timeout=10) as sock:
        sock.sendall(b"POST / HTTP/1.1\r\nContent-Length: 999999999\r\n\r\n")
        assert sock.recv(4096).startswith(b"HTTP/1.1 413")
    assert twin.ask(**{"prompt": "\ud800"})[0] == 400  # half a character
    answer = get(f"{twin.url}/v1/completions")
    assert answer is not None
    assert answer[0] == 405


def test_disconnected_clients_free_their_requests(start: Start) -> None:
    twin = start(blocks=500, base_s=0.01)
    with contextlib.ExitStack() as stack:
        for user in range(1000, 1020):  # more than fit the cache: some wait
            ask = {"prompt": [user] * 500, "max_tokens": 3000, "stream": True}
            body = json.dumps(ask).encode()
            head = b"POST /v1/completions HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body)
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", twin.port)))
            sock.sendall(head + body)
        until(lambda: twin.metrics()["vllm:generation_tokens_total"] > 50)
        assert twin.metrics()["vllm:kv_cache_usage_perc"] > 0.3
    until(lambda: twin.metrics()["vllm:num_requests_running"] == 0)
    found = twin.metrics()
    assert found["vllm:num_requests_waiting"] == found["vllm:kv_cache_usage_perc"] == 0
    assert len(twin.events(prompt=[1], max_tokens=3)) == 3


def test_preempted_requests_still_get_all_tokens(start: Start) -> None:
    twin = start("--no-enable-prefix-caching", blocks=64, context=1024, base_s=0.005)
    report = load(twin, "--concurrency", "16", "--input-tokens", "64", "--output-tokens", "128")
    assert [level["load"] for level in report["levels"]] == ["closed 16"]
    found = twin.metrics()
    assert found["vllm:num_preemptions_total"] > 0
    assert found["vllm:generation_tokens_total"] == found["vllm:request_success_total"] * 128


def load(twin: Twin, *flags: str) -> Any:
    """The JSON report of our load generator."""
    out = subprocess.run(
        [sys.executable, "-m", "loadgen", twin.url, *flags, "--requests", "48", "--json", "-"],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert out.stdout, out.stderr
    return json.loads(out.stdout)


def test_repeated_prefixes_hit_the_prefix_cache(start: Start) -> None:
    twin = start()
    shared = list(range(1000, 1640))
    twin.ask(prompt=[*shared, 1, 2, 3], max_tokens=2)
    assert twin.metrics()["vllm:prefix_cache_hits_total"] == 0
    twin.ask(prompt=[*shared, 9, 9], max_tokens=2)
    assert twin.metrics()["vllm:prefix_cache_hits_total"] == 640
    twin.ask(prompt=[7, *shared], max_tokens=2)
    assert twin.metrics()["vllm:prefix_cache_hits_total"] == 640


def test_power_lag_and_description_pages(start: Start) -> None:
    twin = start()
    first = get_json(f"{twin.url}/twin/power")
    idle = first["devices"][0]["power_w"]
    assert len(twin.events(prompt=[1], max_tokens=50)) == 50
    second = get_json(f"{twin.url}/twin/power")
    passed_s = second["t_s"] - first["t_s"]
    spent_j = second["devices"][0]["energy_j"] - first["devices"][0]["energy_j"]
    assert spent_j > idle * passed_s > 0
    assert second["devices"][0]["limit_w"] == 1100
    lag = get_json(f"{twin.url}/twin/lag")
    assert lag["steps"] == 50
    assert 0 < lag["p50_ms"] <= lag["p99_ms"] <= lag["max_ms"]
    assert twin.metrics()["twin_step_lateness_seconds_count"] == 50
    about = get_json(f"{twin.url}/twin")
    assert about["modelled"] is True
    assert about["setup"]["context_tokens"] == 4096


def test_sigterm_stops_it_at_once(start: Start) -> None:
    twin = start(base_s=5.0)
    with socket.create_connection(("127.0.0.1", twin.port)) as sock:
        sock.sendall(
            b"POST /v1/completions HTTP/1.1\r\nContent-Length: 14\r\n\r\n" + b'{"prompt":[1]}'
        )
        os.kill(twin.process.pid, signal.SIGTERM)
        assert twin.process.wait(5) == 0
    slow = start(start_scale=1.0, wait=False)
    assert slow.process.stderr is not None
    assert "vLLM API server version twin of" in slow.process.stderr.readline()
    assert not healthy(f"{slow.url}/health")
    slow.process.terminate()
    _, log = slow.process.communicate(timeout=5)
    assert "startup complete" not in log


def test_a_taken_port_is_one_line(start: Start) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        twin = start("--port", str(taken.getsockname()[1]), wait=False)
        _, log = twin.process.communicate(timeout=20)
    assert twin.process.returncode == 1
    assert "address already in use" in log.lower()
    assert "Traceback" not in log
