"""`python -m loadgen` with whatever options, URLs, workload files and data sets."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.__main__ import main
from tests.fuzz.ends import cases, ended_well
from tests.fuzz.grammar import (
    ROW,
    SHAREGPT,
    TALK,
    TRACE,
    URLS,
    json_rows,
    mutated,
    options,
)

CODES = {0, 1, 2}
OPTIONS = {
    "--concurrency": ("1", "1,2", "auto", "1,x", "1,,2"),
    "--rate": ("5", "1,2", "auto", "0.5"),
    "--arrival": ("constant", "poisson", "gamma"),
    "--burstiness": ("1", "0.1"),
    "--max-concurrency": ("4",),
    "--levels": ("3",),
    "--highest": ("16",),
    "--tier": ("a:ttft_p99_ms<=5", "ttft<5", "a:nosuch<=5", "a:ttft_p99_ms<=nan", ":<=", "a"),
    "--shards": ("1", "2"),
    "--requests": ("10",),
    "--duration": ("1",),
    "--min-requests": ("5",),
    "--precision": ("0.03", "2"),
    "--max-duration": ("2",),
    "--warmup": ("1",),
    "--timeout": ("3",),
    "--endpoint": ("chat", "completions", "nosuch"),
    "--prompt": ("text", "token_ids"),
    "--input-tokens": ("8",),
    "--output-tokens": ("8",),
    "--tokenizer": ("nosuch.json", ".", "/dev/null"),
    "--stop-at-eos": (),
    "--model": ("m",),
    "--vocabulary": ("100",),
    "--api-key": ("key", "a b", "a\nb"),
    "--insecure": (),
    "--seed": ("1",),
    "--workload": ("nosuch.yaml", ".", "/dev/null", "a" * 300),
    "--json": ("-", "out.json", "no/such/out.json", ".", "/dev/full", "a" * 300),
    "--parquet": ("out.parquet", "no/such/x", ".", "a" * 300),
    "--goodput": (
        "ttft_ms<=5",
        "ttft<500",
        "nosuch<=5",
        "ttft_ms<=inf",
        ",",
        "tpot_ms<=1,e2e_ms<=2",
    ),
    "--nosuch": ("x",),
}
WORKLOAD = """\
name: mine
endpoint: chat
prompt: text
dataset: {kind: jsonl, path: data}
arrival: {kind: constant, rate_per_s: [10]}
level_s: 8
level_max_s: 8
"""
TRACED = "name: traced\nprompt: text\ndataset: {kind: KIND, path: data}\narrival: {kind: trace}\n"
AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.9799600,4808,10\n"
BURSTGPT = "Timestamp,Model,Request tokens,Response tokens,Total tokens\n5,ChatGPT,472,18,490\n"


@pytest.mark.usefixtures("machine_folder")
@given(url=URLS, words=options(OPTIONS))
@cases(500)
def test_command_lines(url: str, words: list[str]) -> None:
    ending = ended_well(main, [url, *words], CODES)
    assert "usage:" in ending.stderr or len(ending.stderr.splitlines()) <= 1, ending


@given(content=mutated(WORKLOAD))
@cases(200)
def test_workload_files(content: bytes, machine_folder: Path) -> None:
    (machine_folder / "data").write_text('{"prompt": "a", "output_tokens": 1}\n')
    file = machine_folder / "mine.yaml"
    file.write_bytes(content)
    ending = ended_well(main, ["http://a", "--workload", str(file)], CODES)
    assert ending.code == 0 or len(ending.stderr.splitlines()) == 1, ending


def judged(folder: Path, kind: str, content: bytes, workload: str) -> None:
    """Read to the end, or refused with the file in one line."""
    (folder / "data").write_bytes(content)
    file = folder / "mine.yaml"
    file.write_text(workload.replace("KIND", kind).replace("jsonl", kind))
    ending = ended_well(main, ["http://a", "--workload", str(file)], CODES)
    lines = ending.stderr.splitlines()
    assert len(lines) <= 1, lines
    assert ending.code == 0 or lines[0].startswith("data"), lines


@pytest.mark.parametrize("row", [ROW, TALK], ids=["prompt", "messages"])
@cases(100)
@given(data=st.data())
def test_rows_of_prompts(row: dict[str, Any], data: st.DataObject, machine_folder: Path) -> None:
    judged(machine_folder, "jsonl", data.draw(json_rows(row)).encode(), WORKLOAD)


@cases(100)
@given(text=json_rows(TRACE))
def test_rows_of_a_trace(text: str, machine_folder: Path) -> None:
    judged(machine_folder, "mooncake", text.encode(), TRACED)


@pytest.mark.parametrize(("kind", "text"), [("azure", AZURE), ("burstgpt", BURSTGPT)])
@cases(60)
@given(data=st.data())
def test_tables_of_a_trace(kind: str, text: str, data: st.DataObject, machine_folder: Path) -> None:
    judged(machine_folder, kind, data.draw(mutated(text)), TRACED)


@cases(80)
@given(data=st.data())
def test_bytes_of_prompts(data: st.DataObject, machine_folder: Path) -> None:
    kind, rows = data.draw(st.sampled_from([("jsonl", [ROW, TALK]), ("sharegpt", [SHAREGPT])]))
    text = "\n".join(json.dumps(row) for row in rows)
    judged(machine_folder, kind, data.draw(mutated(text)), WORKLOAD)
