"""Models of a hub: fetched once, checked, resumed, and each refusal says what would be right."""

import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from serving.install.hub import client
from serving.install.hub import fetch as fetching
from serving.install.hub.cache import ModelCache, is_hub_id
from serving.install.hub.client import FetchError
from serving.install.hub.fetch import fetch, verify
from tests.serving.install.hub.fake_hub import COMMIT, OLDER, TOKEN, FakeHub
from tests.serving.install.hub.fixtures import FILES, MODEL, WEIGHTS, fake

ONE = "org/one"
__all__ = ["fake"]
READ = [
    "config.json",
    "model-00001-of-00002.safetensors",
    "model-00002-of-00002.safetensors",
    "nested/code.py",
]


def names(folder: Path) -> list[str]:
    return sorted(str(each.relative_to(folder)) for each in folder.rglob("*") if not each.is_dir())


def test_a_model_is_fetched_once_and_checked(fake: FakeHub) -> None:
    said: list[str] = []
    found = fetch(MODEL, None, said.append)
    assert found.commit == COMMIT
    assert names(found.path) == READ
    assert (found.path / READ[1]).read_bytes() == WEIGHTS
    assert any("fetching 0.00 GB, 4 files" in line for line in said)
    fake.asked.clear()
    said.clear()
    assert fetch(MODEL) == found
    assert fake.files() == []
    assert said == []
    assert ModelCache(MODEL).complete(None) == COMMIT
    assert ModelCache(MODEL).complete("v1") is None
    assert verify(MODEL) == []


def test_hugging_faces_own_library_finds_it(fake: FakeHub) -> None:
    library = pytest.importorskip("huggingface_hub")
    found = fetch(MODEL, "main")
    cache = str(ModelCache(MODEL).root)
    path = library.snapshot_download(MODEL, cache_dir=cache, local_files_only=True, revision=COMMIT)
    assert Path(path) == found.path
    assert (
        library.try_to_load_from_cache(MODEL, "config.json", cache_dir=cache)
        == f"{path}/config.json"
    )


def test_a_revision_is_fetched_beside_the_other(fake: FakeHub) -> None:
    newest = fetch(MODEL)
    old = {**FILES, "config.json": b"{}"}
    fake.models[MODEL] |= {"v1.0/rc": old, OLDER: old}
    fake.asked.clear()
    found = fetch(MODEL, "v1.0/rc")
    assert found.commit == OLDER
    assert fake.files() == [f"/{MODEL}/resolve/{OLDER}/config.json"]
    assert (newest.path / "config.json").read_bytes() == FILES["config.json"]
    assert fetch(MODEL, OLDER) == found


def test_random_weights_need_no_files_of_weights(fake: FakeHub) -> None:
    found = fetch(MODEL, weights=False)
    assert names(found.path) == ["config.json", "nested/code.py"]
    assert ModelCache(MODEL).complete(None, weights=False) == COMMIT
    assert ModelCache(MODEL).complete(None) is None
    assert names(fetch(MODEL).path) == READ


def test_a_file_goes_on_where_it_was_cut(fake: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.add(ONE, {"config.json": b"{}", "model.safetensors": WEIGHTS})
    fake.cuts = [1000, 0, 5000]
    assert names(fetch(ONE).path) == ["config.json", "model.safetensors"]
    assert fake.starts == [0, 1000, 1000, 6000]
    assert verify(ONE) == []
    # A hub that knows no ranges sends it all again.
    shutil.rmtree(ModelCache(ONE).folder)
    fake.cuts, fake.ranges = [1000], False
    fetch(ONE)
    assert verify(ONE) == []
    # What one process got is kept for the next.
    fake.ranges = True
    shutil.rmtree(ModelCache(ONE).folder)
    monkeypatch.setattr(client, "ATTEMPTS", 1)
    fake.cuts, fake.starts = [5000, 0], []
    with pytest.raises(
        FetchError, match=r"model\.safetensors came to 5,000 of 1,024,000 bytes: .*goes on fr"
    ):
        fetch(ONE)
    assert fetch(ONE).commit == COMMIT
    assert fake.starts == [0, 5000, 5000]
    assert verify(ONE) == []


def test_what_is_damaged_is_fetched_again(fake: FakeHub) -> None:
    found = fetch(MODEL)
    blob = (found.path / READ[1]).resolve()
    blob.write_bytes(WEIGHTS[:-1] + b"x")
    assert verify(MODEL) == [f"{READ[1]}: has another SHA-256 than the hub's {blob.name[:12]}…"]
    (found.path / READ[0]).resolve().unlink()
    assert ModelCache(MODEL).complete(None) is None
    assert verify(MODEL)[0] == "config.json: is missing"
    said: list[str] = []
    fetch(MODEL, None, said.append)
    assert any(READ[1] in line and "it is fetched again" in line for line in said)
    assert verify(MODEL) == []


def test_files_of_another_hash_never_arrive(fake: FakeHub) -> None:
    served = dict(FILES)
    fake.models[MODEL] = {"main": FILES, COMMIT: FILES}
    real = fake.models[MODEL]
    fetch(MODEL)
    shutil.rmtree(ModelCache(MODEL).folder)
    original = client.Hub.listing

    def other(self: client.Hub, model: str, revision: str | None) -> client.Listing:
        found = original(self, model, revision)
        real[COMMIT] = {**served, READ[1]: WEIGHTS[::-1]}
        return found

    client.Hub.listing, kept = other, client.Hub.listing  # type: ignore[method-assign]
    try:
        with pytest.raises(
            FetchError, match=r"00001-of-00002\.safetensors arrived with another hash"
        ):
            fetch(MODEL)
    finally:
        client.Hub.listing = kept  # type: ignore[method-assign]
    assert not list(ModelCache(MODEL).folder.glob("snapshots/*"))


def test_the_first_failure_ends_the_others(fake: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.add(ONE, {"config.json": b"{}", "model.safetensors": WEIGHTS})
    get, block = fetching._get, fetching._block
    begun, stop = threading.Event(), list[threading.Event]()

    def one(*arguments: Any) -> None:
        if arguments[-1].name == "config.json":
            begun.wait()
            raise FetchError("refused")
        stop.append(arguments[3].stop)
        get(*arguments)

    def after_the_other(answer: Any) -> bytes:
        begun.set()
        stop[0].wait(60)
        return block(answer)

    monkeypatch.setattr(fetching, "_get", one)
    monkeypatch.setattr(fetching, "_block", after_the_other)
    with pytest.raises(FetchError, match="refused"):
        fetch(ONE)
    assert [each.name for each in ModelCache(ONE).folder.glob("blobs/*.wattfront-incomplete")]
    assert len(list(ModelCache(ONE).folder.glob("blobs/*"))) == 1


def test_two_at_once_fetch_once(fake: FakeHub) -> None:
    fake.hold, said = threading.Event(), list[str]()

    def say(line: str) -> None:
        said.append(line)
        if "waiting for another process" in line and fake.hold is not None:
            fake.hold.set()

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: fetch(MODEL, None, say), range(2))
    assert first == second
    assert len(fake.files()) == len(READ)
    assert f"{MODEL}: waiting for another process on this node that fetches it" in said


def test_no_space_is_said_before(fake: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: Any) -> Any:
        return shutil._ntuple_diskusage(10, 10, 0)  # type: ignore[attr-defined]

    monkeypatch.setattr(shutil, "disk_usage", full)
    with pytest.raises(
        FetchError,
        match=r"needs 0\.0 GB more in .*/hf/hub, and 0\.0 GB are free: .*HF_HOME",
    ):
        fetch(MODEL)
    assert fake.files() == []


def test_refusals_say_what_would_be_right(fake: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.models[MODEL]["v2"] = {}
    cases = [
        (
            MODEL,
            "v3",
            f"{MODEL} has no revision v3; model.revision is one of main, v2, or a commit",
        ),
        (
            "org/none",
            None,
            "there is no model org/none at .*check model.source, or it is private and HF_TOKEN",
        ),
    ]
    fake.gated = {MODEL}
    cases.append(
        (MODEL, None, f"{MODEL} is gated: ask for access at {fake.url}/{MODEL}, and set HF_TOKEN")
    )
    for model, revision, line in cases:
        with pytest.raises(FetchError, match=f"^{line}"):
            fetch(model, revision)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with pytest.raises(
        FetchError, match=r"refuses HF_TOKEN: it is wrong, or has expired$"
    ) as error:
        fetch(MODEL)
    assert TOKEN not in str(error.value)
    fake.token = TOKEN
    with pytest.raises(
        FetchError, match=r"there is no model org/none at [^,]*: check model.source$"
    ):
        fetch("org/none")
    with pytest.raises(
        FetchError, match=f"account of HF_TOKEN has no access: ask for it at {fake.url}"
    ):
        fetch(MODEL)
    fake.gated = set()
    assert fetch(MODEL).commit == COMMIT
    # The host that stores files is another, and gets no token; neither is it on the disk.
    assert fake.stored_with_token == []
    texts = [p.read_bytes() for p in ModelCache(MODEL).root.rglob("*") if p.is_file()]
    assert not any(TOKEN.encode() in text for text in texts)


def test_a_hub_that_is_busy_is_asked_again(fake: FakeHub) -> None:
    fake.broken = client.LISTING_ATTEMPTS - 1
    assert fetch(MODEL).commit == COMMIT
    fake.broken = client.LISTING_ATTEMPTS
    said: list[str] = []
    assert fetch(MODEL, None, said.append).commit == COMMIT
    assert said == [f"{MODEL}: the hub is out of reach; {COMMIT[:12]} is in the cache"]


def test_without_a_network(fake: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(FetchError, match=r":9 can't be reached: .*refused.*HF_HUB_OFFLINE=1$"):
        fetch(MODEL)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(
        FetchError, match=r"at its default branch is not in .*/hf/hub, and HF_HUB_OFFLINE"
    ):
        fetch(MODEL)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("HF_ENDPOINT", fake.url)
    found = fetch(MODEL)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert fetch(MODEL) == found
    (found.path / READ[1]).unlink()
    with pytest.raises(
        FetchError, match=r"lacks model-00001-of-00002\.safetensors, and HF_HUB_OFFLINE"
    ):
        fetch(MODEL)


def test_offline_takes_what_other_tools_fetched(
    fake: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    cache = ModelCache(MODEL)
    folder = cache.snapshot(COMMIT)
    folder.mkdir(parents=True)
    cache.resolve(None, COMMIT)
    (folder / "config.json").touch()
    index = '{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}'
    (folder / "model.safetensors.index.json").write_text(index)
    (folder / "model-1.safetensors").touch()
    with pytest.raises(FetchError, match=r"lacks model-2\.safetensors, and"):
        fetch(MODEL)
    (folder / "model-2.safetensors").touch()
    assert fetch(MODEL).path == folder
    monkeypatch.delenv("HF_HUB_OFFLINE")
    fake.broken = client.LISTING_ATTEMPTS
    said: list[str] = []
    assert fetch(MODEL, None, said.append).path == folder
    assert said == [f"{MODEL}: the hub is out of reach; {COMMIT[:12]} is in the cache, not checked"]


@pytest.mark.parametrize("name", ["../../evil", "/etc/evil", "a/../../b"])
def test_a_hub_names_no_file_outside(fake: FakeHub, name: str) -> None:
    fake.add("org/evil", {name: b"x"})
    with pytest.raises(FetchError, match=r"outside of the model's folder$"):
        fetch("org/evil")


@pytest.mark.parametrize("revision", ["../../../x", "/etc/passwd", "a/../../b"])
def test_a_revision_is_no_path(fake: FakeHub, revision: str) -> None:
    fake.models[MODEL][revision] = fake.models[MODEL]["main"]
    with pytest.raises(FetchError, match=r"is no revision: a branch, a tag or a commit$"):
        fetch(MODEL, revision)


def test_what_is_no_hub_is_said(fake: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    none = dict[str, bytes]()
    fake.models["org/odd"] = {"main": none, "x" * 40: none}
    with pytest.raises(
        FetchError, match=r"not a hub's answer about org/odd: sha: String should match"
    ):
        fetch("org/odd")


def test_hub_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models/tiny").mkdir(parents=True)
    assert is_hub_id("deepseek-ai/DeepSeek-R1")
    assert not any(
        map(is_hub_id, ("smollm2", "/a/b", "s3://a/b", "a/b/c", "models/tiny", "../x", ""))
    )


def test_progress_is_said_now_and_then(fake: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "SAY_EVERY_S", 0.0)
    said: list[str] = []
    fetch(MODEL, None, said.append)
    assert said[-1].startswith(f"{MODEL} at {COMMIT[:12]}: 0.00 of 0.00 GB, ")
    assert os.environ["HF_HOME"] in said[0]
