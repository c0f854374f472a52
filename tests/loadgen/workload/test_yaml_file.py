"""Faults in YAML: one line each, with file and line number."""

import os
from pathlib import Path

import pytest

from loadgen.workload.yaml_file import BYTES_MAX, BadYaml, read_mapping
from tests.fuzz.grammar import BOMB

FAULTS = {
    b"a:\n\tb: 1\n": "f:2: not valid YAML: found character '\\t' that cannot start any token: indent with",
    b"a: 1\nb: 2\na: 3\n": "f:3: the key 'a' stands twice",
    b"a: 1\nb: \xe9": "f:2: the byte 0xE9 is not UTF-8",
    b"a: 1\nb: x\0y": "f:2: the character U+0000 is not allowed in YAML",
    BOMB: "f:6: more than 200,000 values, aliases expanded",
    b"a: &a\n  b: *a\n": "f:2: the alias *a contains itself",
    b"a: 1\nb: *x": "f:2: the alias *x is not defined before",
    b"[" * 10_000: "f:1: nested deeper than 50 levels",
    b"": "f:1: expected keys with values",
    b"- 1\n": "f:1: expected keys with values",
    b"a: {b: 1": "f:1: not valid YAML: expected ',' or '}', but got '<stream end>'",
    b"a: 1\nb: 2001-99-99": "f:2: month must be in 1..12",
    b"a: 1\nb: " + b"1" * 5000: "f:2: a number of more than 1,000 digits",
    b"a: 1\n---\nb: 2\n": "f:2: a second document begins",
    b"a: 1\nb: !!python/object:os.system x": "f:2: not valid YAML: could not determine a constructor",
    b'a: "\\UFFFFFFFF"': "f: an escape names a character that does not exist",
    b'a: 1\nb: "\\ud800"': "f:2: half of a surrogate pair is no character",
    b"# \n" * BYTES_MAX: "f: more than 1 MB: not a configuration",
}


@pytest.mark.parametrize("content", FAULTS, ids=range(len(FAULTS)))
def test_a_fault_is_one_line(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("f").write_bytes(content)
    with pytest.raises(BadYaml) as caught:
        read_mapping(Path("f"))
    assert str(caught.value).startswith(FAULTS[content])
    assert len(str(caught.value).splitlines()) == 1


def test_what_is_no_file_is_one_line(tmp_path: Path) -> None:
    loop, pipe = tmp_path / "loop", tmp_path / "pipe"
    loop.symlink_to(loop)
    os.mkfifo(pipe)
    for path, why in {
        tmp_path: "it is a directory",
        tmp_path / "absent": "no such file",
        loop: "too many levels of symbolic links",
        pipe: "it is no regular file",
        Path("/dev/zero"): "more than 1 MB",
        Path("a\0b"): "a path has no NUL",
    }.items():
        with pytest.raises(BadYaml, match=why):
            read_mapping(path)


def test_plain_yaml_is_read(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"\xef\xbb\xbfx: &x {a: 1}\ny:\n  <<: *x\n  b: [*x, *x]\n")
    assert read_mapping(file) == {"x": {"a": 1}, "y": {"a": 1, "b": [{"a": 1}, {"a": 1}]}}
