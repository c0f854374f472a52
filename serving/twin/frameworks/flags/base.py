"""What the three parsers share: errors in the framework's own words, flags that have no effect."""

import argparse
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

from serving.twin.errors import EngineExit
from serving.twin.setup import Setup

B300_BYTES = 288_400_000_000  # 275,040 MiB
MULTIPLIERS = {
    **{"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12},
    **{"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40},
}
KV_TYPES = ("auto", "bfloat16", "fp8", "fp8_e4m3", "fp8_e5m2")


@dataclass(frozen=True, slots=True)
class ParsedCommand:
    """A command line. `without_effect`: flags as typed that the real engine obeys and the twin ignores."""

    setup: Setup
    without_effect: tuple[str, ...] = ()


class FlagParser(argparse.ArgumentParser):
    """argparse that raises EngineExit instead of exiting.

    Flags that the twin models are added with `add_argument`. `ignore`: accepted, and reported to have no
    effect. `unsupported`: the real engine would behave otherwise with them, so the twin rejects them.
    """

    def __init__(self, prog: str, usage: str) -> None:
        super().__init__(prog=prog, usage=usage, add_help=False, allow_abbrev=False)
        self._ignored: set[str] = set()
        self._unsupported: set[str] = set()

    def error(self, message: str) -> NoReturn:
        """Raises EngineExit with argparse's message."""
        raise EngineExit(f"{self.format_usage()}{self.prog}: error: {message}", 2)

    def switch(self, *names: str, default: bool | None = False) -> None:
        """Adds a flag without a value, and its `--no-…`."""
        self.add_argument(*names, action=argparse.BooleanOptionalAction, default=default)

    def ignore(self, *names: str, switches: bool = False) -> None:
        """Adds flags that have no effect; `switches`: they take no value."""
        for name in names:
            action = self._switch(name) if switches else self._option(name)
            self._ignored.add(action.dest)

    def unsupported(self, *names: str, switches: bool = False) -> None:
        """Adds flags that are rejected if given; `switches`: they take no value."""
        for name in names:
            action = self._switch(name) if switches else self._option(name)
            self._unsupported.add(action.dest)

    def read(self, argv: Sequence[str], unknown: str = "") -> tuple[argparse.Namespace, list[str]]:
        """The flags, and those without effect as typed. Raises EngineExit.

        `unknown`: the program name in the error about unknown flags, if not `prog`.
        """
        found, rest = self.parse_known_args(argv)
        if rest:
            line = f"{unknown or self.prog}: error: unrecognized arguments: {' '.join(rest)}"
            raise EngineExit(f"{self.format_usage()}{line}", 2)
        for dest in sorted(self._unsupported):
            if getattr(found, dest) is not None:
                self.error(f"argument {flag(dest)}: not supported by the twin")
        ignored = [as_typed(dest, getattr(found, dest)) for dest in sorted(self._ignored)]
        return found, [each for each in ignored if each]

    def _switch(self, name: str) -> argparse.Action:
        return self.add_argument(name, action=argparse.BooleanOptionalAction, default=None)

    def _option(self, name: str) -> argparse.Action:
        return self.add_argument(name, default=None)


def flag(dest: str) -> str:
    """A flag by argparse's name for its value."""
    return "--" + dest.replace("_", "-")


def as_typed(dest: str, value: object) -> str:
    """A flag and its value as on a command line; empty if it was not given."""
    if value is None:
        return ""
    if value is False:
        return f"--no-{dest.replace('_', '-')}"
    return flag(dest) if value is True else f"{flag(dest)} {value}"


def integer(at_least: int = 1) -> Callable[[str], int]:
    """A parser of integers, also with suffixes: 8k is 8,000, 8K is 8,192."""

    def parse(text: str) -> int:
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([kKmMgGtT])", text.strip())
        value = int(float(match[1]) * MULTIPLIERS[match[2]]) if match else int(text)
        if value < at_least:
            raise argparse.ArgumentTypeError(f"must be at least {at_least}, not {value}")
        return value

    parse.__name__ = "int"  # argparse prints: invalid int value
    return parse


def fraction(text: str) -> float:
    """Parses a number above 0 and at most 1."""
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"must be above 0 and at most 1, not {value:g}")
    return value


fraction.__name__ = "float"


def traceback(last: str, frames: Sequence[str]) -> str:
    """A traceback as Python prints it; `frames`: function names, the innermost last."""
    lines = ["Traceback (most recent call last):"]
    for frame in frames:
        lines += [f'  File "twin", line 1, in {frame}']
    return "\n".join([*lines, last])
