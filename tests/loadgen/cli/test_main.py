"""The command line from its arguments to its output."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from loadgen import Workload
from loadgen.__main__ import main
from loadgen.cli.args import parser
from loadgen.cli.console import number, percent
from loadgen.errors import BadTarget
from loadgen.http.protocol import Target
from loadgen.results.records import from_parquet
from tests.loadgen.fake_server import Behaviour, fake_server

QUICK = ["--duration", "0.2", "--warmup", "0.05", "--output-tokens", "4", "--input-tokens", "4"]


@pytest.mark.process
def test_table_and_records(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "records.parquet"
    with fake_server() as server:
        code = main([server.url, "--concurrency", "1,2", *QUICK, "--parquet", str(file)])
        assert server.served[0].body["model"] == "fake"
    assert code == 0
    out = capsys.readouterr().out
    assert "closed 1" in out
    assert "closed 2" in out
    assert not from_parquet(file.read_bytes()).failed.any()


@pytest.mark.process
def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    with fake_server() as server:
        assert (
            main([f"{server.url}/v1", "--model", "m", "--rate", "50", "--json", "-", *QUICK]) == 0
        )
    (level,) = json.loads(capsys.readouterr().out)["levels"]
    assert level["load"] == "poisson 50/s"
    assert level["metrics"]["error_rate"] == 0


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--concurrency", "1,x"], "--concurrency: expected numbers such as 1,2,4, got '1,x'"),
        (["--concurrency", "0"], "--concurrency: input should be greater than 0 (got 0)"),
        (["--duration", "-1"], "--duration: input should be greater than 0 (got -1.0)"),
        (["--duration", "9", "--max-duration", "1"], "level_max_s is below level_s: 1 < 9"),
        (["--endpoint", "chat", "--prompt", "token_ids"], "chat takes no token ids"),
        (["--max-concurrency", "3"], "--max-concurrency requires --rate"),
        (["--arrival", "poisson"], "--arrival requires --rate"),
        (["--rate", "5", "--arrival", "gamma"], "--arrival gamma and --burstiness go together"),
        (["--rate", "5", "--concurrency", "1"], "--rate and --concurrency exclude each other"),
        (["--workload", "nowhere.yaml"], "nowhere.yaml: no such file or directory"),
        (["--concurrency", "auto", "--tier", "ttft<=5"], "--tier: expected NAME:METRIC<=LIMIT"),
        (["--tier", "a:ttft=5", "--concurrency", "auto"], "--tier: expected METRIC<=NUMBER"),
    ],
)
def test_bad_input_is_one_clear_line(
    arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["127.0.0.1:1", *arguments]) == 2
    err = capsys.readouterr().err
    assert line in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.process
def test_a_number_of_requests_with_json_to_a_file(tmp_path: Path) -> None:
    out, counted = tmp_path / "out.json", ["--concurrency", "4", "--requests", "20"]
    with fake_server() as server:
        arguments = [*counted, "--input-tokens", "4", "--output-tokens", "4", "--warmup", "0"]
        assert main([server.url, *arguments, "--json", str(out)]) == 0
        assert len(server.served) == 20
    (level,) = json.loads(out.read_text())["levels"]
    assert level["load"] == "closed 4"
    assert level["intervals_95"].keys() <= level["metrics"].keys()


@pytest.mark.process
def test_options_override_a_workload_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        "endpoint: chat\nprompt: text\ninput_tokens: 4\noutput_tokens: 3\nlevel_s: 0.2\n"
        "warmup_s: 0\narrival: {kind: closed, concurrency: [2]}\n"
    )
    with fake_server() as server:
        assert main([server.url, "--workload", str(file), "--output-tokens", "5"]) == 0
        assert {served.body["max_tokens"] for served in server.served} == {5}
        assert all("messages" in served.body for served in server.served)


@pytest.mark.process
def test_auto_searches_for_the_highest_load_of_a_tier(capsys: pytest.CaptureFixture[str]) -> None:
    tier = ["--concurrency", "auto", "--highest", "16", "--tier", "a:ttft_p50_ms<=30"]
    with fake_server(Behaviour(ttft_s=0.02, workers=4)) as server:
        assert main([server.url, *tier, "--json", "-", *QUICK]) == 0
    loads = [level["load"] for level in json.loads(capsys.readouterr().out)["levels"]]
    assert loads[:2] == ["closed 1", "closed 4"]
    assert len(set(loads)) == len(loads) > 3


@pytest.mark.process
def test_failures_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["http://127.0.0.1:1", "--model", "x"]) == 1
    assert capsys.readouterr().err == "can't connect to 127.0.0.1:1: connection refused\n"
    with fake_server(Behaviour(status=500, error_body=b"[bold]boom")) as server:
        assert main([server.url, *QUICK]) == 1
    assert capsys.readouterr().err.startswith("HTTP 500: [bold]boom")


@pytest.mark.process
def test_help_shows_an_example() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "loadgen", "--help"], capture_output=True, text=True, check=True
    )
    assert "examples:\n  python -m loadgen http://" in done.stdout


def test_help_fits_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert max(map(len, parser().format_help().splitlines())) <= 80


def test_one_format_of_numbers() -> None:
    assert [number(value, 1) for value in (12345.67, 0.04, None, float("nan"))] == [
        *("12,345.7", "0.0", "-", "-"),
    ]
    assert [percent(0.934), percent(0.934, 1), percent(None)] == ["93%", "93.4%", "-"]


@pytest.mark.process
def test_notes_of_a_level(capsys: pytest.CaptureFixture[str]) -> None:
    with fake_server() as server:
        arguments = ["--rate", "50", "--goodput", "ttft_ms<=1e9,tpot_ms<=1e9", *QUICK]
        assert main([server.url, *arguments]) == 0
    out = capsys.readouterr().out
    assert "poisson 50/s: client p99: sent " in out
    assert "% of the due requests sent" in out
    assert " requests/s: ttft_ms <= 1e+09, tpot_ms <= 1e+09" in out
    assert " s measured, " in out


@pytest.mark.parametrize(
    ("url", "authority", "prefix"),
    [
        ("http://a", "a:80", "/v1"),
        ("https://a/x/v1/", "a:443", "/x/v1"),
        ("a:81/v1", "a:81", "/v1"),
        ("http://[::1]:5", "[::1]:5", "/v1"),
    ],
)
def test_urls(url: str, authority: str, prefix: str) -> None:
    target = Target.parse(url)
    assert (target.authority, target.prefix) == (authority, prefix)


@pytest.mark.parametrize("url", ["ftp://a", "http://", "http://a:port"])
def test_invalid_urls(url: str) -> None:
    with pytest.raises(BadTarget):
        Target.parse(url)


def test_a_workload_refuses_unknown_fields() -> None:
    fields = {"name": "x", "input_tokens": 1, "output_tokens": 1}
    with pytest.raises(ValidationError, match="concurency"):
        Workload.model_validate(fields | {"arrival": {"kind": "closed", "concurency": [1]}})
