"""Which models of a hub an engine reads, and the revision with which it is started."""

import os
from pathlib import Path

import pytest

from serving.engines import LlamaCpp, Nim, SgLang, Vllm
from serving.engines.base import Launch
from serving.install.hub.needed import fetch_models, hub_models, pinned_revision
from serving.topology import Model, Topology
from tests.serving.install.hub.fake_hub import COMMIT, FakeHub
from tests.serving.install.hub.fixtures import MODEL, fake

__all__ = ["fake"]


def model(source: str = MODEL, revision: str | None = None) -> Model:
    return Model(name="m", source=source, context_tokens=64, vocabulary=100, revision=revision)


def test_models_of_a_hub_alone_are_fetched(tmp_path: Path) -> None:
    for source in ("smollm2-135m-instruct", str(tmp_path), "/a/b", "s3://bucket/model"):
        assert list(hub_models(Vllm(), model(source), {})) == []
    for engine in (LlamaCpp(), Nim()):
        assert list(hub_models(engine, model(), {})) == []
    assert list(hub_models(Vllm(env={"VLLM_USE_MODELSCOPE": "True"}), model(), {})) == []
    (found,) = hub_models(SgLang(env={"HF_HOME": "/mine"}), model(), {"HF_HOME": "/other"})
    assert found.cache.root == Path("/mine/hub")


def test_drafts_are_fetched_too(fake: FakeHub) -> None:
    fake.add("org/draft", {"config.json": b"{}"})
    drafting = Vllm.model_validate(
        {"speculation": {"method": "draft_model", "depth": 2, "model": "org/draft"}}
    )
    found = fetch_models([drafting, Vllm()], model(), os.environ, lambda _: None)
    assert found == {MODEL: COMMIT, "org/draft": COMMIT}
    assert sum(path.startswith("/api/") for path in fake.asked) == 2


@pytest.mark.parametrize(
    "engine",
    [
        Vllm(load_format="dummy"),
        Vllm(flags={"load-format": "dummy"}),
        SgLang(flags={"load-format": "dummy"}),
        SgLang(extra_args=("--load-format=dummy",)),
        SgLang(extra_args=("--load-format", "dummy")),
    ],
)
def test_random_weights_are_not_fetched(engine: Vllm) -> None:
    assert [each.weights for each in hub_models(engine, model(), {})] == [False]


def test_an_engine_starts_with_the_commit_that_was_fetched(fake: FakeHub) -> None:
    for engine in (Vllm(), SgLang()):
        assert pinned_revision(engine, model(revision="main"), os.environ) == "main"
        assert pinned_revision(engine, model(), os.environ) is None
    fetch_models([Vllm()], model(), os.environ, lambda _: None)
    for engine in (Vllm(), SgLang()):
        assert pinned_revision(engine, model(), os.environ) == COMMIT
        assert pinned_revision(engine, model(revision="main"), os.environ) == COMMIT
        assert pinned_revision(engine, model(revision="v2"), os.environ) == "v2"
    revision = pinned_revision(Vllm(), model(), os.environ)
    launch = Launch("vllm", MODEL, "m", "127.0.0.1", 1, Topology(cpus=1), 64, revision=revision)
    argv = Vllm().command(launch)
    assert argv[1:5] == ["serve", MODEL, "--revision", COMMIT]
