"""A worker process gets what Python reads of our environment, and no key."""

from pathlib import Path

import pytest

from loadgen.worker.link import LocalLink

pytestmark = pytest.mark.process


def test_a_worker_gets_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "c4nary-v4lue")
    monkeypatch.setenv("SOMETHING_ELSE", "c4nary-v4lue")
    monkeypatch.setenv("LC_TIME", "C")
    link = LocalLink.start()
    try:
        environ = Path(f"/proc/{link.pid}/environ").read_text().split("\0")
    finally:
        link.close()
    assert "LC_TIME=C" in environ
    assert not [line for line in environ if "c4nary" in line]
