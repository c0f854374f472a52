"""A hub with one model, and an empty cache."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.install.hub import client
from tests.serving.install.hub.fake_hub import FakeHub, hub

MODEL = "org/tiny-1B"
WEIGHTS = bytes(range(256)) * 4000
FILES = {
    "config.json": b'{"model_type": "llama"}',
    "model-00001-of-00002.safetensors": WEIGHTS,
    "model-00002-of-00002.safetensors": WEIGHTS[::-1],
    "pytorch_model.bin": b"the same weights again",
    "original/consolidated.pth": b"and again",
    "nested/code.py": b"print()",
}


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(client, "WAIT_S", 0.0)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    with hub() as state:
        monkeypatch.setenv("HF_ENDPOINT", state.url)
        state.add(MODEL, FILES)
        yield state
