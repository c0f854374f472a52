"""The command of a trial as one types it: the engine's own, with a port, in lines that fit a screen. Pure."""

import re
import shlex
from collections.abc import Iterable, Sequence

from serving.engines.base import PORT
from serving.launch import NEXT, for_shell

TWIN = (
    "serving.twin"  # `python -m serving.twin … --` stands before the command of an emulated engine
)
PORT_SHOWN = "8000"
INDENT = "    "
_LONG_FLOAT = re.compile(r"\d+\.\d{12,}")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")


def command_lines(command: str, width: int = 80) -> str:
    """A recorded command, to be copied into a shell; as it is where no shell could read it.

    A word longer than `width` has a line of its own.
    """
    parts = command.split(NEXT)
    return NEXT.join(_one(each, width, alone=len(parts) == 1) for each in parts)


def _one(command: str, width: int, *, alone: bool) -> str:
    try:
        words = _of_engine(shlex.split(command))
    except ValueError:
        return command
    words = [_rounded(word) for word in (_with_port(words) if alone else words)]
    return f" \\\n{INDENT}".join(_filled(_units(words), width - len(INDENT) - len(" \\")))


def quoted(word: str) -> str:
    """For a shell, with as few marks as it takes. `$HOST` and the like stay variables."""
    plain = for_shell(word)
    if "'" in word and not re.search(r'["$`\\!]', word):
        return f'"{word}"'
    return plain


def _of_engine(words: Sequence[str]) -> list[str]:
    """Without what starts the emulator in the engine's place."""
    for at in range(len(words) - 2):
        if words[at + 1 : at + 3] == ["-m", TWIN] and "--" in words[at:]:
            return [*words[:at], *words[words.index("--", at) + 1 :]]
    return list(words)


def _with_port(words: Sequence[str]) -> list[str]:
    """A trial's port was free by chance; in a plan it is a variable."""
    found = list(words)
    for at, word in enumerate(found[:-1]):
        if word == "--port" and (found[at + 1] == PORT or found[at + 1].isdigit()):
            found[at + 1] = PORT_SHOWN
    return found


def _rounded(word: str) -> str:
    """Of a float its first 12 digits: steps of 0.05 give 0.8500000000000001."""
    return f"{float(word):.12g}" if _LONG_FLOAT.fullmatch(word) else word


def _units(words: Iterable[str]) -> list[str]:
    """What stays on one line: a variable, a word, or a flag with its values."""
    units, begun, flagged = list[str](), False, False
    for word in words:
        if not begun and (found := _ASSIGNMENT.match(word)):
            units.append(found[0] + quoted(word[found.end() :]) if word[found.end() :] else word)
            continue
        begun, is_flag = True, word.startswith("-")
        if flagged and not is_flag:
            units[-1] += f" {quoted(word)}"
        else:
            units.append(quoted(word))
        flagged = flagged or is_flag
    return units


def _filled(units: Iterable[str], width: int) -> list[str]:
    lines: list[str] = []
    for unit in units:
        if lines and len(lines[-1]) + 1 + len(unit) <= width:
            lines[-1] += f" {unit}"
        else:
            lines.append(unit)
    return lines or [""]
