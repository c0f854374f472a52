"""How a fuzzed command has to end: in time, with a documented code, and with a few lines where it fails.

Every run of the suite tries the same cases. `WATTFRONT_EXAMPLES=20 python -m pytest tests/fuzz` tries twenty
times as many, each time others.
"""

import contextlib
import io
import signal
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from types import FrameType

from hypothesis import HealthCheck, Phase, settings

from tests.fuzz.examples import FACTOR, examples

HANG_S = 120.0  # a case takes milliseconds; this tells a hang from a busy machine
LINES_MAX, LINE_MAX = 16, 2000


class Hung(BaseException):
    """A case did not end."""


@dataclass(frozen=True)
class Ending:
    """A case that ended."""

    code: int
    stdout: str
    stderr: str


def cases(number: int) -> settings:
    """So many cases, always the same ones unless more are asked for."""
    return settings(
        max_examples=examples(number),
        derandomize=FACTOR <= 1,
        deadline=None,
        database=None,
        phases=[Phase.generate],  # shrinking takes minutes, and the cases are short
        suppress_health_check=list(HealthCheck),
    )


@contextlib.contextmanager
def not_for_ever() -> Iterator[None]:
    """Raises Hung in the block after `HANG_S`."""

    def hung(number: int, frame: FrameType | None) -> None:
        raise Hung(f"no end within {HANG_S:g} s")

    before = signal.signal(signal.SIGALRM, hung)
    signal.setitimer(signal.ITIMER_REAL, HANG_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def ended_well(
    main: Callable[[Sequence[str]], int], argv: Sequence[str], codes: Collection[int]
) -> Ending:
    """Runs a command, and asserts that it ends as it should. An exception of `main` is the test's failure."""
    out, errors = io.StringIO(), io.StringIO()
    with (
        not_for_ever(),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(errors),
    ):
        try:
            code = main(argv)
        except SystemExit as end:  # argparse
            code = int(end.code or 0)
    ending = Ending(code, out.getvalue(), errors.getvalue())
    lines = ending.stderr.splitlines()
    assert code in codes, (argv, code, lines)
    assert "Traceback" not in ending.stderr, lines
    assert "\x1b" not in ending.stderr, lines
    assert len(lines) <= LINES_MAX, (argv, lines)
    most = LINE_MAX + sum(map(len, argv))  # a message may repeat what was typed
    assert all(len(line) <= most for line in lines), (argv, lines)
    if code in (2, 4):
        assert lines, f"{argv}: exit {code} without a word"
    return ending
