"""The same command twice sends other prompts, and prompts that a server's prefix cache knows are noticed."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import loadgen
from loadgen import Closed, Level, Workload
from loadgen.__main__ import main
from loadgen.control.runner import salted
from loadgen.prompts.build import build
from loadgen.results.stats import summarize
from loadgen.worker.group import forked_links
from loadgen.workload.workload import Conversation, Dataset, SharedPrefix
from tests.loadgen.odd_server import Answer, OddServer, odd_server, stream

TOKENS = 64


def workload(**changes: Any) -> Workload:
    base: dict[str, Any] = {
        "name": "salt",
        "input_tokens": TOKENS,
        "output_tokens": 4,
        "arrival": Closed(concurrency=(2,)),
        "max_requests": 6,
        "warmup_s": 0.0,
    }
    return Workload.model_validate(base | changes)


def prompts(load: Workload, count: int = 20) -> list[bytes]:
    source = build(load, 32000)
    return [source.first(number).prompt for number in range(count)]


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"prompt": "text"},
        {"prompt": "text", "endpoint": "chat"},
        {"shared_prefix": SharedPrefix(hit_rate=0.5)},
        {"prompt": "text", "conversation": Conversation(turns=2, next_tokens=4)},
        {"input_tokens": {"kind": "ranged", "low": 8, "high": 90}},
    ],
    ids=["token ids", "text", "chat", "shared prefix", "conversation", "ranged"],
)
def test_a_salt_changes_the_beginning_of_prompts_and_not_their_lengths(more: Any) -> None:
    plain, one, other = (prompts(workload(prompt_salt=salt, **more)) for salt in (0, 1, 2))
    assert plain == prompts(workload(**more)), "without a salt: as before there was one"
    assert one == prompts(workload(prompt_salt=1, **more))
    assert len({prompt[:120] for prompt in one} & {prompt[:120] for prompt in other}) == 0
    if more.get("prompt") != "text":
        sizes = [[prompt.count(b",") for prompt in each] for each in (plain, one, other)]
        assert sizes[0] == sizes[1] == sizes[2]


def test_a_salt_stands_before_the_texts_of_a_dataset(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    brief, why = {"role": "system", "content": "be brief"}, {"role": "user", "content": "why"}
    rows: list[dict[str, Any]] = [
        {"prompt": "why", "output_tokens": 2},
        {"messages": [brief, why], "max_tokens": 2},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data: dict[str, Any] = {"dataset": Dataset(kind="jsonl", path=path), "prompt": "text"}
    load = {**data, "input_tokens": None, "output_tokens": None, "endpoint": "chat"}
    first, second = prompts(workload(prompt_salt=12, **load), 2)
    assert json.loads(first) == [{"role": "user", "content": "[12] why"}]
    assert [turn["content"] for turn in json.loads(second)] == ["[12] be brief", "why"]
    assert json.loads(prompts(workload(prompt_salt=0, **load), 1)[0])[0]["content"] == "why"


def test_each_run_has_a_salt_of_its_own_unless_it_is_given() -> None:
    drawn = {salted(workload()).prompt_salt for _ in range(50)}
    assert len(drawn) > 45
    assert None not in drawn
    assert 0 not in drawn
    assert salted(workload(prompt_salt=0)).prompt_salt == 0
    assert salted(workload(prompt_salt=9)).prompt_salt == 9


def sent(server: OddServer) -> set[tuple[int, ...]]:
    return {tuple(asked.body["prompt"]) for asked in server.asked if asked.body}


@pytest.mark.process
def test_a_command_sends_other_prompts_each_time_and_says_how_to_repeat_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.json"
    found: list[set[tuple[int, ...]]] = []
    given: Sequence[str] = ()
    for _ in range(3):
        with odd_server(lambda body, number: stream(body)) as server:
            arguments = ["--requests", "4", "--warmup", "0", "--json", str(out), *given]
            assert main([server.url, *arguments]) == 0
            found.append(sent(server))
        salt = json.loads(out.read_text())["prompt_salt"]
        assert f"--prompt-salt {salt} repeats these prompts" in capsys.readouterr().out
        given = ["--prompt-salt", str(salt)] if len(found) == 2 else ()
    assert not found[0] & found[1]
    assert found[1] == found[2]


# --- prefix hits


def with_cache(field: str) -> Any:
    """A server whose prefix cache holds all that it was sent."""
    seen: list[list[int]] = []

    def script(body: dict[str, Any], number: int) -> Answer:
        prompt = body["prompt"]
        hit = max((common(prompt, other) for other in seen), default=0)
        seen.append(prompt)
        usage: dict[str, Any] = {"prompt_tokens": len(prompt), "completion_tokens": 4}
        if field == "details":
            usage["prompt_tokens_details"] = {"cached_tokens": hit}
        else:
            usage["prompt_cache_hit_tokens"] = hit
        return stream(body, usage=usage)

    return script


def common(one: Sequence[int], other: Sequence[int]) -> int:
    count = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        count += 1
    return count


def hits(level: Level) -> list[str]:
    return [each for each in summarize(level).invalid_because if "prefix cache" in each]


@pytest.mark.process
@pytest.mark.parametrize("field", ["details", "deepseek"])
def test_prefix_hits_that_the_workload_did_not_ask_for_make_a_level_doubtful(field: str) -> None:
    with odd_server(with_cache(field)) as server:
        runs = [workload(), workload(), workload(prompt_salt=5), workload(prompt_salt=5)]
        levels = [loadgen.run(server.url, "m", load, links=forked_links).levels[0] for load in runs]
    found = [hits(level) for level in levels]
    assert found[:3] == [[], [], []]
    assert "of the prompt tokens in its prefix cache" in found[3][0]
    assert "asks for 0%" in found[3][0]


@pytest.mark.process
@pytest.mark.parametrize(("cached", "doubtful"), [(0, False), (30, False), (45, True)])
def test_the_hits_of_a_chat_template_raise_no_doubt(cached: int, doubtful: bool) -> None:
    def script(body: dict[str, Any], number: int) -> Answer:
        details = {"prompt_tokens_details": {"cached_tokens": cached}}
        return stream(body, usage={"prompt_tokens": 46, "completion_tokens": 4, **details})

    with odd_server(script) as server:
        load = workload(endpoint="chat", prompt="text", input_tokens=16)
        (level,) = loadgen.run(server.url, "m", load, links=forked_links).levels
    assert bool(hits(level)) == doubtful


@pytest.mark.process
def test_prefix_hits_that_the_workload_asks_for_raise_no_doubt() -> None:
    with odd_server(with_cache("details")) as server:
        load = workload(shared_prefix=SharedPrefix(hit_rate=0.5))
        (level,) = loadgen.run(server.url, "m", load, links=forked_links).levels
    assert hits(level) == []
    assert level.records.cached_tokens.max() >= TOKENS // 2
