"""What is packed away comes back as it was, from memory or from the file."""

import os
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.http.response_buffer import Hoard


@given(st.lists(st.lists(st.binary(max_size=50), max_size=6), max_size=20), st.integers(0, 300))
def test_everything_comes_back(replies: list[list[bytes]], memory_bytes: int) -> None:
    with Hoard(memory_bytes) as hoard:
        packed = [hoard.pack(array("q", range(len(reads))), reads) for reads in replies]
        for reads, one in zip(replies, packed, strict=True):
            assert hoard.raw(one) == b"".join(reads)
            assert list(one.lengths) == [len(read) for read in reads]
            assert list(one.stamps_ns) == list(range(len(reads)))
        assert sum(len(one.raw) for one in packed) <= memory_bytes


def test_a_full_disk_costs_memory_and_no_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with Hoard(0) as hoard:
        before = hoard.pack(array("q", [1]), [b"before"])
        monkeypatch.setattr(os, "pwrite", full)
        during = hoard.pack(array("q", [2]), [b"during"])
        monkeypatch.undo()
        after = hoard.pack(array("q", [3]), [b"after"])
        assert [hoard.raw(one) for one in (before, during, after)] == [
            b"before",
            b"during",
            b"after",
        ]
