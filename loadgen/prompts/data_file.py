"""Reads files of prompts and traces as text; what can't be read is one line with file and line number."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from loadgen.errors import BadWorkload
from loadgen.workload.strict import TOKENS_MAX

SHOWN = 40


def data_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines with their numbers. Only a line feed ends a line: JSON may hold all other separators."""
    try:
        _check_regular(path)
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="\n") as file:
            for number, line in enumerate(file, 1):
                if not line.isascii():
                    _check_utf8(f"{path}:{number}", line)
                yield number, line
    except OSError as error:
        raise BadWorkload(f"{path}: {(error.strerror or str(error)).lower()}") from error


def parsed_json(where: str, text: str) -> Any:
    """`where`: file and line. Raises BadWorkload."""
    try:
        return json.loads(text)
    except RecursionError:
        raise BadWorkload(f"{where}: JSON nested too deeply") from None
    except json.JSONDecodeError as error:
        why = f"{error.msg[0].lower()}{error.msg[1:]} at column {error.colno}"
        raise BadWorkload(f"{where}: not JSON: {why}") from None
    except ValueError as error:  # a number of thousands of digits
        raise BadWorkload(f"{where}: not JSON: {error}") from None


def checked_text(where: str, text: str) -> str:
    """The text, if it can be sent. JSON can escape half a character. Raises BadWorkload."""
    if not text.isascii():
        _check_utf8(where, text)
    return text


def shown(value: Any) -> str:
    """A value as messages show it: short, in one line."""
    if isinstance(value, int) and value.bit_length() > 1000:  # Python refuses to print the longest
        return f"a number of {value.bit_length()} bits"
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def token_count(name: str, value: Any) -> int:
    """A number of tokens that a file states. Raises ValueError."""
    count = value if isinstance(value, int) and not isinstance(value, bool) else _whole(value)
    if count is None or not 0 <= count <= TOKENS_MAX:
        raise ValueError(f"{name}: expected 0 to {TOKENS_MAX:,} tokens, got {shown(value)}")
    return count


def _whole(value: Any) -> int | None:
    digits = value.strip() if isinstance(value, str) else ""
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 12 else None


def _check_regular(path: Path) -> None:
    if path.exists() and not path.is_file():
        kind = "a directory" if path.is_dir() else "no regular file"
        raise BadWorkload(f"{path}: it is {kind}")


def _check_utf8(where: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        character = ord(text[error.start])
        # Bytes that are not UTF-8 are read as U+DC80 to U+DCFF.
        escaped = 0xDC80 <= character <= 0xDCFF
        what = f"the byte 0x{character - 0xDC00:02X}" if escaped else f"U+{character:04X}"
        raise BadWorkload(f"{where}: {what} is not UTF-8 text") from None
