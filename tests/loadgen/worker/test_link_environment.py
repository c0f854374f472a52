"""A worker process gets what Python reads of our environment, and no key."""

import time
from pathlib import Path

import pytest

from loadgen.worker.link import LocalLink

pytestmark = pytest.mark.process


def environ_of(pid: int) -> list[str]:
    """Empty for a moment while a process becomes another program: its files are closed before that is set."""
    deadline = time.monotonic() + 60
    while not (found := Path(f"/proc/{pid}/environ").read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found.split("\0")


def test_a_worker_gets_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "c4nary-v4lue")
    monkeypatch.setenv("SOMETHING_ELSE", "c4nary-v4lue")
    monkeypatch.setenv("LC_TIME", "C")
    link = LocalLink.start()
    try:
        environ = environ_of(link.pid)
    finally:
        link.close()
    assert "LC_TIME=C" in environ
    assert not [line for line in environ if "c4nary" in line]
