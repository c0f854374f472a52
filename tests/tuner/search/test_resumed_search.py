"""A search on curves goes on as if nothing had happened, and does not search again for its early trials."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.tuner.samples.made import VLLM, made_ledger, made_measured, made_study
from tuner.results.ledger import Ledger
from tuner.search import Proposal, proposer
from tuner.search.curve.sampler import CurveSampler
from tuner.search.factory import SearchSetup
from tuner.search.proposer import RENEWED_AFTER, RENEWED_EVERY
from tuner.study.study import Study

TRIALS, AT_ONCE = 30, 3
CONFIG = made_study(TRIALS, VLLM)
SETUP = SearchSetup(CONFIG)  # its candidates are the same for each study: they are drawn once


def drive(study: Study, seed: int, until: int) -> list[str]:
    """Runs trials, three at a time, which end in an order of their own, until so many were asked for."""
    running, names = list[Proposal](), list[str]()
    while len(names) < until:
        while len(running) < AT_ONCE and (asked := study.ask()):
            running.append(asked)
            names.append(asked.config.fingerprint)
        if not running:
            break
        rng = np.random.default_rng([seed, min(each.number for each in running)])
        ended = running.pop(int(rng.integers(len(running))))
        study.finished(ended.number, made_measured(ended))
    return names


class CountedRankings:
    """Counts the rankings of candidates."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        rank: Callable[..., object] = CurveSampler._rank

        def counted(*given: object) -> object:
            self.count += 1
            return rank(*given)

        monkeypatch.setattr(CurveSampler, "_rank", counted)


@pytest.mark.thorough
def test_it_goes_on_as_it_would_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proposer, "RENEWED_AFTER", 8)
    monkeypatch.setattr(proposer, "RENEWED_EVERY", 4)
    with Ledger.open(tmp_path / "whole") as ledger:
        whole = drive(Study(CONFIG, ledger, [], SETUP), 1, TRIALS)
        assert len(set(whole)) == TRIALS
    lines = (tmp_path / "whole" / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    for kept in range(20, len(lines), 17):
        folder = tmp_path / str(kept)
        folder.mkdir()
        (folder / "ledger.jsonl").write_bytes(b"".join(lines[:kept]))
        rankings = CountedRankings(monkeypatch)
        with Ledger.open(folder) as ledger:
            asked = sum(entry.result is None for entry in ledger.entries())
            study = Study(CONFIG, ledger, [], SETUP)
            assert rankings.count <= 8 if asked < 8 else rankings.count <= 4
            before = {e.number: e.fingerprint for e in ledger.entries()}
            after = resumed(study, ledger)
            assert [{**before, **after}[number] for number in range(TRIALS)] == whole
        monkeypatch.undo()
        monkeypatch.setattr(proposer, "RENEWED_AFTER", 8)
        monkeypatch.setattr(proposer, "RENEWED_EVERY", 4)


def resumed(study: Study, ledger: Ledger) -> dict[int, str]:
    """Takes up the rest: as `drive`, from where the ledger ends."""
    running: list[Proposal] = []
    while True:
        while len(running) < AT_ONCE and (asked := study.ask()):
            running.append(asked)
        if not running:
            return {e.number: e.fingerprint for e in ledger.entries()}
        rng = np.random.default_rng([1, min(each.number for each in running)])
        ended = running.pop(int(rng.integers(len(running))))
        study.finished(ended.number, made_measured(ended))


@pytest.mark.thorough
def test_a_long_search_is_not_searched_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ledger of trials that were drawn at random stands for that of a long search."""
    trials = RENEWED_AFTER + 5 * RENEWED_EVERY
    config = made_study(2 * trials, VLLM)
    made_ledger(tmp_path, config, trials)
    rankings = CountedRankings(monkeypatch)
    with Ledger.open(tmp_path) as ledger:
        study = Study(config, ledger, [], SearchSetup(config))
        assert rankings.count == 0
        assert study.remaining() == trials
        assert study.ask() is not None
    assert rankings.count == 1
