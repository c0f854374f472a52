"""What is read of the kernel's log and counters, where they may be read at all."""

from pathlib import Path

import pytest

from serving.process import kernel_log
from serving.process.generation import started_s


@pytest.fixture
def kmsg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(kernel_log, "KMSG", tmp_path / "kmsg")
    monkeypatch.setattr(kernel_log, "VMSTAT", tmp_path / "vmstat")
    return tmp_path / "kmsg"


def test_lines_since_a_moment(kmsg: Path) -> None:
    xid = "NVRM: Xid (PCI:0000:1b:00): 79, pid=1896, GPU has fallen off the bus."
    kmsg.write_text(f"6,1,1000000,-;old\n SUBSYSTEM=pci\n3,2,9000000,-;{xid}\n garbage\n")
    assert kernel_log.kernel_lines(5.0) == [xid]
    assert kernel_log.kernel_lines(0.0) == ["old", xid]
    assert kernel_log.kernel_lines(started_s("77-gone")) == []


def test_what_may_not_be_read_says_nothing(kmsg: Path) -> None:
    assert kernel_log.kernel_lines(0.0) == []
    assert kernel_log.oom_kills() == 0
    kmsg.with_name("vmstat").write_text("pgfault 9\noom_kill 7\n")
    assert kernel_log.oom_kills() == 7


def test_the_machine_s_own_files() -> None:
    assert kernel_log.oom_kills() >= 0
    assert isinstance(kernel_log.kernel_lines(0.0), list)
