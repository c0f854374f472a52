"""Options and files are judged before the load; whatever ends a run, what was measured is written."""

import json
import os
import signal
import threading
from pathlib import Path

import pytest

from loadgen import __main__ as program
from loadgen.__main__ import main
from loadgen.results.records import from_parquet
from tests.loadgen.fake_server import Behaviour, fake_server

Captured = pytest.CaptureFixture[str]
QUICK = ["--duration", "0.3", "--warmup", "0.05", "--output-tokens", "4", "--input-tokens", "4"]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--json", "no/such/out.json"], "--json: there is no folder no/such"),
        (["--json", "."], "--json: . is a directory: name a file"),
        (["--parquet", "no/such/x"], "--parquet: there is no folder no/such"),
        (["--parquet", "a" * 300], "file name too long"),
        (["--json", "x", "--parquet", "x"], "--json and --parquet name the same file: x"),
        (["--goodput", "ttft<500"], "--goodput: expected METRIC<=NUMBER, got 'ttft<500'"),
        (["--goodput", "ttft<=500"], "--goodput: there is no 'ttft'; metrics: ttft_ms"),
        (["--goodput", "ttft_ms<=nan"], "--goodput: expected METRIC<=NUMBER"),
        (["--tier", "a:ttft_p99_ms<=5"], "--tier requires --concurrency auto or --rate auto"),
        (["--levels", "3", "--rate", "1"], "--levels requires --concurrency auto or --rate auto"),
        (
            ["--tier", "a:nosuch<=5", "--rate", "auto"],
            "--tier: there is no 'nosuch'; metrics: ttft",
        ),
        (["--duration", "inf"], "--duration: input should be a finite number"),
        (["--rate", "1e23"], "--rate: input should be less than or equal to 1000000"),
        (["--rate", "1e6", "--duration", "3600"], "at most 20,000,000: lower the rate"),
    ],
)
def test_judged_before_the_load(
    arguments: list[str], line: str, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "load", lambda *_: pytest.fail("the load ran"))
    assert main(["127.0.0.1:1", *arguments]) == 2
    err = capsys.readouterr().err
    assert line in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    "url", ["http://a:0", "http://a:99999", "http://a b", "ftp://a", "http://é"]
)
def test_a_bad_url_is_a_mistake_of_the_command_line(url: str, capsys: Captured) -> None:
    assert main([url]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_is_read_only(tmp_path: Path, capsys: Captured) -> None:
    tmp_path.chmod(0o500)
    assert main(["127.0.0.1:1", "--json", str(tmp_path / "x")]) == 2
    assert "can't be written" in capsys.readouterr().err


@pytest.mark.process
def test_a_full_disk_loses_only_its_own_file(tmp_path: Path, capsys: Captured) -> None:
    file = tmp_path / "records.parquet"
    with fake_server() as server:
        assert main([server.url, *QUICK, "--json", "/dev/full", "--parquet", str(file)]) == 1
    out, err = capsys.readouterr()
    assert "closed 1" in out
    assert len(from_parquet(file.read_bytes()))
    assert err == "--json: /dev/full: no space left on device\n"


@pytest.mark.process
def test_an_interrupted_load_is_written(tmp_path: Path, capsys: Captured) -> None:
    """In the second level, which would last an hour."""
    out = tmp_path / "out.json"
    options = ["--concurrency", "1,2", "--duration", "3600", "--warmup", "0", "--requests", "20"]
    shorter = [*options, "--input-tokens", "4", "--output-tokens", "4", "--json", str(out)]
    with fake_server(Behaviour(ttft_s=0.05)) as server:

        def interrupt() -> None:
            while len(server.served) < 21:
                threading.Event().wait(0.01)
            os.kill(os.getpid(), signal.SIGINT)

        thread = threading.Thread(target=interrupt, daemon=True)
        thread.start()
        assert main([server.url, *shorter]) == 130
        thread.join()
    assert "interrupted in level 2" in capsys.readouterr().err
    first, *_ = json.loads(out.read_text())["levels"]
    assert first["load"] == "closed 1"
    assert first["metrics"]["requests_completed"]


@pytest.mark.process
def test_an_exception_in_a_shard_ends_the_load_at_once(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In set-up, where the shard would otherwise never answer. Shards are forked: they have the fault too."""

    def broken(*_: object) -> None:
        raise MemoryError("no room for prompts")

    monkeypatch.setattr("loadgen.worker.process.build", broken)
    with fake_server() as server:
        assert main([server.url, "--model", "m", *QUICK]) == 1
    assert "no room for prompts" in capsys.readouterr().err
