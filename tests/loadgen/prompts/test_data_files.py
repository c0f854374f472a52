"""Files of prompts and traces: every line is read, refused with its number, or counted as left out."""

import json
from pathlib import Path
from typing import Any

import pytest

from loadgen.errors import BadWorkload
from loadgen.prompts.build import judged
from loadgen.prompts.dataset import read_dataset
from loadgen.prompts.traces import read_trace
from loadgen.workload.workload import Dataset, Workload

TRACE = {"timestamp": 0, "input_length": 20, "output_length": 4, "hash_ids": [0]}


def written(path: Path, *rows: Any) -> Path:
    lines = (json.dumps(row, ensure_ascii=False) for row in rows)
    path.write_text("\n".join(lines) + "\n")
    return path


def test_only_a_line_feed_ends_a_line(tmp_path: Path) -> None:
    prompts = ["one\u2028two", "three\x85four", "five\u2029six"]
    file = written(tmp_path / "f", *({"prompt": each, "output_tokens": 1} for each in prompts))
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    read = read_dataset(Dataset(kind="jsonl", path=file))
    assert [row.prompts for row in read.rows] == [(each,) for each in prompts]
    assert not read.left_out


def test_parts_of_text_and_developer_messages_are_read(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "second"}, {"type": "text", "text": "part"}]
    messages = [
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": None, "tool_calls": []},
        {"role": "tool", "content": "4"},
        {"role": "user", "content": parts},
    ]
    file = written(tmp_path / "f", {"messages": messages, "max_tokens": 4})
    read = read_dataset(Dataset(kind="jsonl", path=file))
    assert read.rows[0].prompts == ("first", "second\npart")
    assert read.rows[0].system == "be brief"
    assert read.left_out == {"messages of 'tool'": 1}


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"prompt": "\ud800", "output_tokens": 1}, "U\\+D800 is not UTF-8 text"),
        ({"prompt": "a", "output_tokens": True}, "output_tokens: expected 1 to"),
        ({"prompt": "a", "output_tokens": 10**23}, "output_tokens: expected 1 to"),
        ({"messages": [{"role": "user", "content": None}]}, "messages.0: no text"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "messages.0: content of type 'image_url': only text can be sent",
        ),
        ({"messages": ["hi"]}, "messages.0: expected role and content"),
    ],
)
def test_a_row_that_cannot_be_sent_is_refused(row: Any, why: str, tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_text("\n" + json.dumps(row) + "\n")
    with pytest.raises(BadWorkload, match=f"f:2: {why}"):
        read_dataset(Dataset(kind="jsonl", path=file))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"timestamp": float("nan")}, "the time is nan s"),
        ({"timestamp": float("inf")}, "the time is inf s"),
        ({"timestamp": 10**400}, "too large"),
        ({"input_length": 10**23}, "input length: expected 0 to 10,000,000 tokens"),
        ({"output_length": -1}, "output length: expected 0"),
        ({"hash_ids": "123"}, "hash_ids: expected a list of numbers"),
        ({"hash_ids": [2**70]}, "hash_ids: expected a list of numbers"),
    ],
)
def test_a_row_of_a_trace_that_has_no_meaning(
    change: dict[str, Any], why: str, tmp_path: Path
) -> None:
    file = written(tmp_path / "f", TRACE, TRACE | change, TRACE)
    with pytest.raises(BadWorkload, match=f"f:2: .*{why}"):
        read_trace(Dataset(kind="mooncake", path=file))


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    trace = written(tmp_path / "t", TRACE, TRACE | {"output_length": 0}, TRACE)
    turns = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]
    odd = [*turns, {"from": "bing", "value": "c"}, {"from": "tool", "value": "d"}, turns[0]]
    talks = tmp_path / "s"
    talks.write_text(json.dumps([{"conversations": each} for each in (turns, odd, turns[:1])]))
    common = {"weight": 1.0}
    workload = Workload.model_validate(
        {
            "name": "x",
            "prompt": "text",
            "arrival": {"kind": "closed", "concurrency": [1]},
            "mixture": [
                common | {"dataset": {"kind": "mooncake", "path": str(trace)}},
                common | {"dataset": {"kind": "sharegpt", "path": str(talks)}},
            ],
        }
    )
    assert judged(workload) == [
        f"{trace}: left out: 1 requests without output tokens",
        f"{talks}: left out: 1 prompts without an answer, 1 turns out of order, 1 turns of 'tool', "
        "1 conversations without an answer",
    ]


@pytest.mark.parametrize("kind", ["jsonl", "sharegpt", "mooncake", "azure", "burstgpt"])
@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"\n\xe9", "the byte 0xE9 is not UTF-8 text|no column"),
        (b"[" * 100_000, "nested too deeply|no column"),
        (b"1" * 5000, "not JSON|expected|no column|subscript"),
        (b"", "no usable conversation|not JSON|no request|no column"),
    ],
    ids=["latin", "deep", "digits", "empty"],
)
def test_what_is_no_data(kind: Any, content: bytes, why: str, tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(content)
    dataset = Dataset(kind=kind, path=file)
    with pytest.raises(BadWorkload, match=why) as caught:
        (read_trace if dataset.is_trace else read_dataset)(dataset)
    assert str(caught.value).startswith(str(file))
    assert len(str(caught.value).splitlines()) == 1


def test_what_is_no_file(tmp_path: Path) -> None:
    for path, why in {
        tmp_path: "it is a directory",
        Path("/dev/zero"): "it is no regular file",
        tmp_path / "absent": "no such file",
    }.items():
        with pytest.raises(BadWorkload, match=why):
            read_dataset(Dataset(kind="jsonl", path=path))
