"""Real sockets: TLS, API keys, proxy paths, and servers that misbehave."""

import asyncio
import itertools
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop

import loadgen
from loadgen import Closed, Constant, Workload
from loadgen.__main__ import main
from loadgen.errors import BadTarget, LoadError
from loadgen.http.protocol import Target
from loadgen.http.response import Outcome
from loadgen.worker.group import forked_links
from loadgen.worker.messages import Setup
from tests.loadgen.certificates import certificate
from tests.loadgen.fake_server import Behaviour, FakeServer, Served, plain_head, reset

pytestmark = pytest.mark.process

KEY = "sk-very-secret-0123456789"
QUICK = ["--duration", "0.2", "--warmup", "0", "--output-tokens", "4", "--input-tokens", "4"]

Fault = Callable[[asyncio.StreamWriter], bool]  # returns whether the connection stays open


class Server(FakeServer):
    """Keeps request heads; answers every third request with `fault`, if there is one."""

    def __init__(self, behaviour: Behaviour, fault: Fault | None, idle_s: float | None) -> None:
        super().__init__(behaviour)
        self.heads: list[bytes] = []
        self.idle_resets = 0
        self.speaks_first = False  # as a plain server does on a TLS handshake
        self._fault = fault
        self._idle_s = idle_s
        self._numbers = itertools.count(1)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.speaks_first:
            writer.write(plain_head(400, 0))
        if self._idle_s is None:
            await super().handle(reader, writer)
            return
        try:
            while True:
                head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), self._idle_s)
                await self.reply(head, reader, writer)
        except TimeoutError:
            self.idle_resets += 1
            reset(writer)
        except (asyncio.IncompleteReadError, ConnectionError, RuntimeError):
            pass
        finally:
            writer.close()

    async def reply(
        self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        self.heads.append(head)
        return await super().reply(head, reader, writer)

    async def answer(self, served: Served, writer: asyncio.StreamWriter) -> bool:
        if self._fault is not None and next(self._numbers) % 3 == 0:
            return self._fault(writer)
        return await super().answer(served, writer)


@contextmanager
def serving(
    behaviour: Behaviour | None = None,
    *,
    host: str = "127.0.0.1",
    tls: ssl.SSLContext | None = None,
    fault: Fault | None = None,
    idle_s: float | None = None,
) -> Iterator[Server]:
    fake = Server(behaviour or Behaviour(), fault, idle_s)
    ready = threading.Event()
    loop = uvloop.new_event_loop()
    over = asyncio.Event()

    async def serve() -> None:
        server = await asyncio.start_server(fake.handle, host, 0, ssl=tls)
        fake.port = server.sockets[0].getsockname()[1]
        ready.set()
        await over.wait()
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def run() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(serve())

    thread = threading.Thread(target=run)
    thread.start()
    ready.wait()
    try:
        yield fake
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()


def workload(**changes: Any) -> Workload:
    base: dict[str, Any] = {
        "name": "wire",
        "input_tokens": 4,
        "output_tokens": 6,
        "arrival": Closed(concurrency=(2,)),
        "warmup_s": 0.0,
        "level_s": 0.3,
        "level_max_s": 3.0,
        "request_timeout_s": 5.0,
    }
    return Workload(**base | changes)


def counted(requests: int, **changes: Any) -> Workload:
    return workload(max_requests=requests, level_s=30, level_max_s=60, **changes)


def one(server: Server, load: Workload, api_key: str | None = None) -> loadgen.Level:
    """With forked shards, as on the command line."""
    report = loadgen.run(server.url, "fake", load, api_key=api_key, links=forked_links)
    (level,) = report.levels
    return level


# --- TLS


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def ours(folder: Path) -> tuple[Path, ssl.SSLContext]:
    return certificate(folder, "127.0.0.1")


def figures(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    (level,) = json.loads(capsys.readouterr().out)["levels"]
    metrics: dict[str, Any] = level["metrics"]
    return metrics


@pytest.mark.parametrize(
    "behaviour",
    [
        Behaviour(),
        Behaviour(framing="until_close"),
        Behaviour(close="announced"),
        Behaviour(fragment=7),
    ],
    ids=["kept alive", "until close", "announces its close", "in fragments"],
)
def test_a_trusted_certificate(
    behaviour: Behaviour,
    ours: tuple[Path, ssl.SSLContext],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(ours[0]))
    with serving(behaviour, tls=ours[1]) as server:
        url = f"https://127.0.0.1:{server.port}"
        assert main([url, "--concurrency", "2", "--json", "-", *QUICK]) == 0
    metrics = figures(capsys)
    assert metrics["error_rate"] == 0
    assert metrics["output_tokens_mean"] == 4


@pytest.mark.parametrize("model", [[], ["--model", "fake"]], ids=["asks for models", "named"])
def test_an_untrusted_certificate_is_one_line(
    model: list[str], ours: tuple[Path, ssl.SSLContext], capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(tls=ours[1]) as server:
        assert main([f"https://127.0.0.1:{server.port}", *model, *QUICK]) == 1
        why = "its certificate is not trusted: self-signed certificate (SSL_CERT_FILE, --insecure)"
        err = capsys.readouterr().err
        assert err == f"can't connect to 127.0.0.1:{server.port}: {why}\n"
        assert not server.served


@pytest.mark.parametrize("model", [[], ["--model", "fake"]], ids=["asks for models", "named"])
def test_a_certificate_of_another_host(
    model: list[str],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    trusted, context = certificate(folder, "elsewhere")
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    with serving(tls=context) as server:
        assert main([f"https://127.0.0.1:{server.port}", *model, *QUICK]) == 1
    err = capsys.readouterr().err
    assert "certificate is not valid for '127.0.0.1'" in err
    assert err.count("\n") == 1


def test_insecure_accepts_any_certificate(
    ours: tuple[Path, ssl.SSLContext], capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(tls=ours[1]) as server:
        url = f"https://127.0.0.1:{server.port}"
        assert main([url, "--insecure", "--json", "-", *QUICK]) == 0
    out = capsys.readouterr().out
    assert json.loads(out)["url"] == url
    assert json.loads(out)["levels"][0]["metrics"]["error_rate"] == 0


@pytest.mark.parametrize("model", [[], ["--model", "fake"]], ids=["asks for models", "named"])
def test_tls_to_a_plain_server(model: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with serving() as server:
        server.speaks_first = True
        assert main([f"https://127.0.0.1:{server.port}", *model, *QUICK]) == 1
    err = capsys.readouterr().err
    assert err.startswith(f"can't connect to 127.0.0.1:{server.port}: TLS failed: ")
    assert err.count("\n") == 1


# --- the key


@pytest.mark.parametrize("given", ["option", "environment"])
@pytest.mark.parametrize("status", [200, 401])
def test_the_key_is_sent_and_shown_nowhere(
    given: str,
    status: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    out, parquet = tmp_path / "out.json", tmp_path / "out.parquet"
    if given == "environment":
        monkeypatch.setenv("OPENAI_API_KEY", f"{KEY}\n")  # a trailing newline, as in Docker secrets
    arguments = ["--api-key", KEY] if given == "option" else []
    arguments += ["--json", str(out), "--parquet", str(parquet), *QUICK]
    with serving(Behaviour(status=status)) as server:
        assert main([server.url, *arguments]) == (status != 200)
    lines = [head.split(b"\r\n") for head in server.heads]
    assert lines[0][0].startswith(b"GET /v1/models")
    assert len(lines) > 1
    assert all(f"Authorization: Bearer {KEY}".encode() in head for head in lines)
    shown = capfd.readouterr()
    assert KEY not in shown.out + shown.err
    assert all(KEY.encode() not in file.read_bytes() for file in tmp_path.iterdir())
    assert out.exists() == parquet.exists() == (status == 200)


def test_the_key_is_in_no_repr_and_no_exception() -> None:
    target = Target.parse("http://a", KEY)
    setup = Setup("http://a", "m", workload(), 100, KEY, 0, 1)
    with serving(Behaviour(status=401)) as server, pytest.raises(LoadError) as caught:
        one(server, workload(), KEY)
    assert KEY not in f"{target!r} {target} {setup!r} {caught.value!r} {caught.getrepr()}"


@pytest.mark.parametrize("key", [f"{KEY}\nHost: elsewhere", f"{KEY}é"])
def test_a_key_with_characters_that_headers_forbid(
    key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["http://127.0.0.1:1", "--api-key", key]) == 2
    assert (
        capsys.readouterr().err == "the API key has characters that are not allowed in a header\n"
    )


def test_a_password_in_the_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(BadTarget, match="a user name in the URL is not sent") as caught:
        Target.parse(f"https://me:{KEY}@127.0.0.1:1")
    assert KEY not in str(caught.value)


# --- addresses


@pytest.mark.parametrize("path", ["/some/where", "/some/where/v1", "/some/where/v1/"])
def test_a_path_before_the_api(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    with serving() as server:
        assert main([server.url + path, "--json", "-", *QUICK]) == 0
    assert figures(capsys)["error_rate"] == 0
    asked = {head.split(b" HTTP/1.1")[0] for head in server.heads}
    assert asked == {b"GET /some/where/v1/models", b"POST /some/where/v1/completions"}


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="no ::1 here")
def test_an_ipv6_address(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(host="::1") as server:
        host = f"[::1]:{server.port}"
        assert main([f"http://{host}", "--json", "-", *QUICK]) == 0
    assert figures(capsys)["error_rate"] == 0
    assert all(f"\r\nHost: {host}\r\n".encode() in head for head in server.heads)


# --- servers that misbehave


def test_connections_reset_while_idle_lose_no_request() -> None:
    load = workload(arrival=Constant(rate_per_s=(4,)), level_s=1.2)
    with serving(idle_s=0.1) as server:
        level = one(server, load)
    assert server.idle_resets > 2
    assert level.records.errors == ("",)
    assert level.records.completed.sum() > 2


def answered(status: int, kind: str) -> Fault:
    def fault(writer: asyncio.StreamWriter) -> bool:
        body = b'{"error": {"message": "slow down"}}'
        if kind == "no body":
            writer.write(plain_head(status, 0))
        elif kind == "length":
            writer.write(plain_head(status, len(body)) + body)
        elif kind == "chunked":
            writer.write(b"HTTP/1.1 %d X\r\nTransfer-Encoding: chunked\r\n\r\n" % status)
            writer.write(b"%x\r\n%b\r\n0\r\nX-Trailer: a\r\n\r\n" % (len(body), body))
        else:
            writer.write(b"HTTP/1.1 %d X\r\nConnection: close\r\n\r\n%b" % (status, body))
        return kind != "until close"

    return fault


@pytest.mark.parametrize(
    ("status", "kind"),
    [(429, "no body"), (429, "chunked"), (503, "length"), (503, "until close"), (503, "no body")],
)
def test_refused_requests_are_counted_and_the_others_complete(status: int, kind: str) -> None:
    with serving(fault=answered(status, kind)) as server:
        level = one(server, counted(30))
    records = level.records
    message = "(empty)" if kind == "no body" else "slow down"
    assert records.errors == ("", f"HTTP {status}: {message}")
    refused = records.outcome == Outcome.REFUSED
    assert set(records.status[refused].tolist()) == {status}
    assert (refused.sum(), records.completed.sum()) == (10, 20)


def begun(writer: asyncio.StreamWriter) -> bool:
    """Half a response, then silence on an open connection."""
    event = b'data: {"choices": [{"text": "a", "finish_reason": null}]}\n\n'
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
    writer.write(head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (len(event), event))
    return True


def nothing(writer: asyncio.StreamWriter) -> bool:
    return True


@pytest.mark.parametrize(("fault", "events"), [(begun, 1), (nothing, 0)])
def test_hanging_requests_time_out_and_the_others_complete(fault: Fault, events: int) -> None:
    load = counted(9, request_timeout_s=0.4)
    with serving(fault=fault) as server:
        level = one(server, load)
    records = level.records
    late = records.outcome == Outcome.TIMED_OUT
    assert records.errors == ("", "no whole reply within 0.4 s")
    assert (late.sum(), records.completed.sum()) == (3, 6)
    assert set(records.events[late].tolist()) == {events}
