"""Conversion to the result format of `vllm bench serve --save-result`."""

import json
from pathlib import Path

import numpy as np
import pytest

from loadgen.__main__ import main as load
from loadgen.cli.vllm_export import main as convert
from loadgen.results.records import from_parquet, to_parquet_bytes
from tests.loadgen.fake_server import Behaviour, fake_server

pytestmark = pytest.mark.thorough

# Read from a result of vLLM 0.32.
KEYS = {
    *("date", "endpoint_type", "backend", "label", "model_id", "tokenizer_id", "num_prompts"),
    *("request_rate", "burstiness", "max_concurrency", "duration", "completed", "failed"),
    *("total_input_tokens", "total_output_tokens", "request_throughput", "request_goodput"),
    *("output_throughput", "total_token_throughput", "max_output_tokens_per_s"),
    *("max_concurrent_requests", "rtfx"),
    *(
        f"{s}_{m}_ms"
        for s in ("mean", "median", "std", "p99")
        for m in ("ttft", "tpot", "itl", "e2el")
    ),
}
LISTS = {
    *("input_lens", "output_lens", "ttfts", "itls", "latencies", "start_times", "queue_times"),
    *("generated_texts", "errors"),
}


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("convert") / "records.parquet"
    quick = ["--duration", "0.4", "--warmup", "0", "--input-tokens", "4", "--output-tokens", "6"]
    with fake_server(Behaviour(ttft_s=0.01, itl_s=0.003)) as server:
        assert load([server.url, "--concurrency", "2,3", *quick, "--parquet", str(file)]) == 0
    return file


def test_keys_and_values(measured: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    assert convert([str(measured), "--level", "1", "--detailed", "-o", str(out)]) == 0
    made = json.loads(out.read_text())
    assert made.keys() == KEYS | LISTS
    assert (made["model_id"], made["max_concurrency"]) == ("fake", 3)
    assert made["completed"] == len(made["ttfts"]) > 10
    assert made["total_output_tokens"] == 6 * made["completed"]
    assert made["total_input_tokens"] == 4 * made["completed"]
    assert made["mean_ttft_ms"] == pytest.approx(np.mean(made["ttfts"]) * 1e3)
    assert made["p99_itl_ms"] == pytest.approx(
        np.percentile(np.concatenate(made["itls"]), 99) * 1e3
    )
    tpots = (np.array(made["latencies"]) - made["ttfts"]) / 5
    assert made["median_tpot_ms"] == pytest.approx(np.median(tpots) * 1e3)
    assert made["request_throughput"] * made["duration"] == pytest.approx(made["completed"])
    assert made["max_concurrent_requests"] >= 3


def test_without_details_to_stdout(measured: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert convert([str(measured), "--level", "0"]) == 0
    assert json.loads(capsys.readouterr().out).keys() == KEYS


def test_errors_are_one_line(
    measured: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, none = tmp_path / "plain.parquet", tmp_path / "none"
    plain.write_bytes(to_parquet_bytes(from_parquet(measured.read_bytes())))
    none.write_bytes(b"nothing")
    for arguments, line in (
        ([str(measured)], "several levels, choose one with --level: 0 (closed 2), 1 (closed 3)"),
        ([str(measured), "--level", "2"], "no level 2, only 0 to 1"),
        ([str(plain)], "expected a file written by"),
        ([str(none)], "not a Parquet file"),
        ([str(tmp_path / "gone")], "no such file"),
    ):
        assert convert(arguments) == 2
        err = capsys.readouterr().err
        assert line in err
        assert len(err.splitlines()) == 1
