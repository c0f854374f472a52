"""Every field of the request, every header and TLS can be changed by configuration."""

import json
import ssl
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

import loadgen
from loadgen import Closed, Workload
from loadgen.__main__ import main
from loadgen.errors import BadTarget, BadWorkload, EndpointUnreachable
from loadgen.http.protocol import HEAD_END, Target
from loadgen.http.request_encoder import RequestEncoder, secret_headers
from loadgen.prompts.base import Request
from loadgen.worker.group import forked_links
from loadgen.worker.messages import Setup
from tests.loadgen.certificates import certificate
from tests.loadgen.fake_server import Behaviour
from tests.loadgen.http.test_wire import serving
from tests.loadgen.odd_server import odd_server, stream

KEY = "very-secret-0123456789"
REQUEST = Request(b"[1,2]", 7, 2)


def workload(**request: Any) -> Workload:
    return Workload(
        name="changed",
        input_tokens=4,
        output_tokens=6,
        arrival=Closed(concurrency=(1,)),
        warmup_s=0.0,
        max_requests=2,
        request=request,  # type: ignore[arg-type]
    )


def encoded(load: Workload, **more: Any) -> tuple[list[str], dict[str, Any]]:
    encoder = RequestEncoder(Target.parse("http://h:1", "key"), "m", load, **more)
    head, _, body = encoder.encode(REQUEST).partition(HEAD_END)
    lines = head.decode().split("\r\n")
    assert f"Content-Length: {len(body)}" in lines
    return lines, json.loads(body)


USUAL = {
    "model": "m",
    "max_tokens": 7,
    "prompt": [1, 2],
    "temperature": 0,
    "stream": True,
    "stream_options": {"include_usage": True},
    "ignore_eos": True,
}


@pytest.mark.parametrize(
    ("request_", "changed", "gone"),
    [
        ({}, {}, ()),
        ({"body": {"priority": 1, "temperature": 0.7}}, {"priority": 1, "temperature": 0.7}, ()),
        ({"body": {"nested": {"a": [None, True]}}}, {"nested": {"a": [None, True]}}, ()),
        ({"body": {"max_tokens": 3, "model": "other"}}, {"max_tokens": 3, "model": "other"}, ()),
        ({"rename": {"max_tokens": "max_completion_tokens"}}, {"max_completion_tokens": 7}, ("max_tokens",)),
        ({"rename": {"prompt": "inputs"}}, {"inputs": [1, 2]}, ("prompt",)),
        ({"drop": ["ignore_eos", "stream_options"]}, {}, ("ignore_eos", "stream_options")),
        ({"drop": ["max_tokens", "model", "temperature"]}, {}, ("max_tokens", "model", "temperature")),
    ],
    ids=str,
)  # fmt: skip
def test_fields_are_set_renamed_and_dropped(request_: Any, changed: Any, gone: Any) -> None:
    _, body = encoded(workload(**request_))
    assert body == {k: v for k, v in USUAL.items() if k not in gone} | changed


def test_headers_are_set_and_replaced() -> None:
    load = workload(headers={"X-Tenant": "a", "host": "inside"})
    lines, _ = encoded(load, secret_headers={"authorization": "Key 1", "api-key": "2"})
    assert {"X-Tenant: a", "Host: inside", "Authorization: Key 1", "api-key: 2"} <= set(lines)
    assert sum(line.lower().startswith(("host", "authorization")) for line in lines) == 2


@pytest.mark.parametrize(
    ("request_", "asked"),
    [({}, 7), ({"rename": {"max_tokens": "n"}}, 7), ({"drop": ["max_tokens"]}, None),
     ({"body": {"max_tokens": 3}}, 3), ({"drop": ["max_tokens"], "body": {"max_new_tokens": 4}}, 4)],
    ids=str,
)  # fmt: skip
def test_the_limit_that_an_endpoint_is_told_is_known(request_: Any, asked: int | None) -> None:
    encoder = RequestEncoder(Target.parse("http://h"), "m", workload(**request_))
    assert encoder.asked(REQUEST) == asked


@pytest.mark.parametrize(
    ("request_", "line"),
    [
        ({"drop": ["max_token"]}, "'max_token' is no field of the usual body, which has model"),
        ({"rename": {"eos": "x"}}, "'eos' is no field"),
        ({"drop": ["stream"]}, "only responses that are streamed can be timed"),
        ({"body": {"stream": False}}, "only responses that are streamed can be timed"),
        ({"body": {"prompt": "x"}}, "prompt: it comes from the workload"),
        ({"drop": ["model"], "body": {"model": "m"}}, "model: it is dropped, and set"),
        ({"rename": {"max_tokens": "temperature"}}, "two fields would be temperature"),
        ({"headers": {"a b": "c"}}, "'a b' is no name of a header"),
        ({"headers": {"A": "b\r\nC: d"}}, "not allowed in a header"),
        ({"headers": {"Content-Length": "3"}}, "is set by the load generator"),
        ({"headers": {"Authorization": "Bearer x"}}, "use headers_from_env"),
        ({"client_key": "k.pem"}, "client_key needs client_cert"),
    ],
    ids=str,
)
def test_changes_that_can_not_work_are_refused(request_: Any, line: str) -> None:
    with pytest.raises(ValidationError) as caught:
        workload(**request_)
    assert line in caught.value.errors()[0]["msg"]


def test_secrets_of_the_environment_are_in_no_repr(monkeypatch: pytest.MonkeyPatch) -> None:
    load = workload(headers_from_env={"api-key": "A_KEY"})
    with pytest.raises(BadWorkload, match=r"api-key: \$A_KEY is not set"):
        secret_headers(load.request)
    monkeypatch.setenv("A_KEY", f"{KEY}\n")
    found = secret_headers(load.request)
    assert found == {"api-key": KEY}
    setup = Setup("http://a", "m", load, 100, None, 0, 1, found)
    assert KEY not in f"{setup!r} {load!r} {load.model_dump_json()}"


@pytest.mark.process
def test_the_command_line_changes_requests(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("A_KEY", KEY)
    changes = ["--body", "priority=2", "--body", "user=me", "--rename-field", "max_tokens=limit"]
    changes += ["--drop-field", "ignore_eos", "--header", "X-A: b", "--header", "api-key: $A_KEY"]
    with odd_server(lambda body, number: stream(body, tokens=6)) as server:
        arguments = ["--requests", "2", "--warmup", "0", "--output-tokens", "6", *changes]
        assert main([server.url, *arguments, "--json", str(tmp_path / "out")]) == 0
    posts = [asked for asked in server.asked if asked.body]
    assert len(server.asked) > len(posts), "the list of models was asked for"
    for asked in server.asked:
        assert b"X-A: b\r\n" in asked.head
        assert f"api-key: {KEY}\r\n".encode() in asked.head
    for asked in posts:
        assert asked.body["priority"] == 2
        assert asked.body["user"] == "me"
        assert asked.body["limit"] == 6
        assert not {"ignore_eos", "max_tokens"} & asked.body.keys()
    assert KEY not in (tmp_path / "out").read_text()


@pytest.mark.process
def test_a_secret_header_that_an_endpoint_repeats_is_masked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("A_KEY", KEY)
    behaviour = Behaviour(status=401, error_body=f'{{"error": "bad key {KEY}"}}'.encode())
    load = workload(headers_from_env={"api-key": "A_KEY"})
    with serving(behaviour) as server, pytest.raises(loadgen.EndpointErrors) as caught:
        loadgen.run(server.url, "m", load, links=forked_links)
    assert "bad key ***" in str(caught.value)


# --- TLS


@pytest.mark.process
def test_a_certificate_file_of_the_workload_is_trusted(tmp_path: Path) -> None:
    public, context = certificate(tmp_path, "127.0.0.1")
    with serving(tls=context) as server:
        url = f"https://127.0.0.1:{server.port}"
        with pytest.raises(EndpointUnreachable, match="not trusted"):
            loadgen.run(url, "m", workload(), links=forked_links)
        for request in ({"ca_file": public}, {"verify_tls": False}):
            report = loadgen.run(url, "m", workload(**request), links=forked_links)
            assert report.levels[0].records.completed.all()


@pytest.mark.process
def test_a_client_certificate_is_shown_to_servers_that_require_one(tmp_path: Path) -> None:
    public, context = certificate(tmp_path, "127.0.0.1")
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(public)
    both = tmp_path / "127.0.0.1-key.pem"
    with serving(tls=context) as server:
        url = f"https://127.0.0.1:{server.port}"
        load = workload(ca_file=public, client_cert=both)
        report = loadgen.run(url, "m", load, links=forked_links)
        assert report.levels[0].records.completed.all()
        with pytest.raises(loadgen.LoadError):
            loadgen.run(url, "m", workload(ca_file=public), links=forked_links)


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_certificate_file_that_can_not_be_used_is_one_line(
    content: str | None, tmp_path: Path
) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    with pytest.raises(BadTarget, match=r"ca\.pem: (no such file|not a PEM file)"):
        loadgen.run("https://127.0.0.1:1", "m", workload(ca_file=path), links=forked_links)
