"""The best of a search measured again under Ray, through a kill in its middle."""

import pytest

from tests.e2e.conftest import Wattfront

pytestmark = pytest.mark.process

CONFIRM = ("search.trials=2", "search.confirm.candidates=1", "search.confirm.repeats_min=2")


def repeats(wattfront: Wattfront, *, asked: bool) -> list[tuple[int, int, str]]:
    """Round, which trial, fingerprint: of what was asked for, or of what ended."""
    return [
        (line["round"], line["of"], line["fingerprint"])
        for line in wattfront.lines()
        if line.get("role") == "confirm" and (line["status"] == "asked") is asked
    ]


def test_it_follows_the_search_and_survives_a_kill(wattfront: Wattfront) -> None:
    stub = wattfront.stub()
    driver = wattfront.start("tune", *stub, *CONFIRM, "search.confirm.repeats_max=3")
    with driver:
        wattfront.wait_for("completed", 3, within_s=240)
        wattfront.wait_for("asked", 4)
        driver.kill()
        driver.wait(timeout=20)
    assert wattfront.leftovers() == []
    before = repeats(wattfront, asked=True)
    assert before
    code, output = wattfront.run("resume", str(wattfront.study()))
    assert code == 0, output
    assert "of the repeated" in output
    again = repeats(wattfront, asked=True)
    assert again[: len(before)] == before
    assert sorted(again) == sorted(repeats(wattfront, asked=False))
    assert {number for number, *_ in again} >= {0, 1}
    assert len({mark for *_, mark in again}) == len(again)
    assert wattfront.leftovers() == []
