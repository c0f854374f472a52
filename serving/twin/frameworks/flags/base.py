"""What the three parsers share: refusals in a framework's own words, and what is merely noted."""

import argparse
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

from serving.twin.setup import FlagError, Setup

B300_BYTES = 288_400_000_000  # 275,040 MiB
MULTIPLIERS = {
    **{"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12},
    **{"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40},
}
KV_TYPES = ("auto", "bfloat16", "fp8", "fp8_e4m3", "fp8_e5m2")


class Refused(FlagError):
    """`str()` is all that the framework prints before it exits with `exit_code`."""

    def __init__(self, text: str, exit_code: int) -> None:
        super().__init__(text)
        self.exit_code = exit_code


@dataclass(frozen=True, slots=True)
class Parsed:
    """`without_effect`: flags as typed, which the real engine heeds and the twin has no model of."""

    setup: Setup
    without_effect: tuple[str, ...] = ()


class Parser(argparse.ArgumentParser):
    """Complains as argparse does, but raises instead of leaving.

    Knows three kinds of flags. Modelled ones are added as usual. `note`: taken, and reported to have
    no effect. `refuse`: the real engine takes them and would be another one; the twin says so.
    """

    def __init__(self, prog: str, usage: str) -> None:
        super().__init__(prog=prog, usage=usage, add_help=False, allow_abbrev=False)
        self._noted: set[str] = set()
        self._refused: set[str] = set()

    def error(self, message: str) -> NoReturn:
        raise Refused(f"{self.format_usage()}{self.prog}: error: {message}", 2)

    def switch(self, *names: str, default: bool | None = False) -> None:
        """A flag without a value, and its `--no-…`."""
        self.add_argument(*names, action=argparse.BooleanOptionalAction, default=default)

    def note(self, *names: str, switches: bool = False) -> None:
        for name in names:
            action = self._switch(name) if switches else self._option(name)
            self._noted.add(action.dest)

    def refuse(self, *names: str, switches: bool = False) -> None:
        for name in names:
            action = self._switch(name) if switches else self._option(name)
            self._refused.add(action.dest)

    def read(self, argv: Sequence[str], unknown: str = "") -> tuple[argparse.Namespace, list[str]]:
        """The flags, and those without effect, as typed. `unknown`: who complains of unknown ones."""
        found, rest = self.parse_known_args(argv)
        if rest:
            said = f"{unknown or self.prog}: error: unrecognized arguments: {' '.join(rest)}"
            raise Refused(f"{self.format_usage()}{said}", 2)
        for dest in sorted(self._refused):
            if getattr(found, dest) is not None:
                self.error(f"argument {flag(dest)}: the twin has no model of it")
        noted = [as_typed(dest, getattr(found, dest)) for dest in sorted(self._noted)]
        return found, [each for each in noted if each]

    def _switch(self, name: str) -> argparse.Action:
        return self.add_argument(name, action=argparse.BooleanOptionalAction, default=None)

    def _option(self, name: str) -> argparse.Action:
        return self.add_argument(name, default=None)


def flag(dest: str) -> str:
    return "--" + dest.replace("_", "-")


def as_typed(dest: str, value: object) -> str:
    if value is None:
        return ""
    if value is False:
        return f"--no-{dest.replace('_', '-')}"
    return flag(dest) if value is True else f"{flag(dest)} {value}"


def whole(at_least: int = 1) -> Callable[[str], int]:
    """Integers, also like 8k (8,000) and 8K (8,192)."""

    def parse(text: str) -> int:
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([kKmMgGtT])", text.strip())
        value = int(float(match[1]) * MULTIPLIERS[match[2]]) if match else int(text)
        if value < at_least:
            raise argparse.ArgumentTypeError(f"must be at least {at_least}, not {value}")
        return value

    parse.__name__ = "int"  # argparse says: invalid int value
    return parse


def fraction(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"must be above 0 and at most 1, not {value:g}")
    return value


fraction.__name__ = "float"


def traceback(last: str, frames: Sequence[str]) -> str:
    """As Python prints it; `frames` are lines of code that failed, the innermost last."""
    lines = ["Traceback (most recent call last):"]
    for frame in frames:
        lines += [f'  File "twin", line 1, in {frame}']
    return "\n".join([*lines, last])
