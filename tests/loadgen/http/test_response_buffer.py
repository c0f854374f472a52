"""Stored responses are read back unchanged, from memory or from the file."""

import os
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.http.response_buffer import ResponseBuffer


@given(st.lists(st.lists(st.binary(max_size=50), max_size=6), max_size=20), st.integers(0, 300))
def test_every_response_is_read_back(responses: list[list[bytes]], memory_bytes: int) -> None:
    with ResponseBuffer(memory_bytes) as buffer:
        packed = [buffer.pack(array("q", range(len(reads))), reads) for reads in responses]
        for reads, one in zip(responses, packed, strict=True):
            assert buffer.raw(one) == b"".join(reads)
            assert list(one.lengths) == [len(read) for read in reads]
            assert list(one.stamps_ns) == list(range(len(reads)))
        assert sum(len(one.raw) for one in packed) <= memory_bytes


def test_with_a_full_disk_responses_stay_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with ResponseBuffer(0) as buffer:
        before = buffer.pack(array("q", [1]), [b"before"])
        monkeypatch.setattr(os, "pwrite", full)
        during = buffer.pack(array("q", [2]), [b"during"])
        monkeypatch.undo()
        after = buffer.pack(array("q", [3]), [b"after"])
        assert [buffer.raw(one) for one in (before, during, after)] == [
            b"before",
            b"during",
            b"after",
        ]
