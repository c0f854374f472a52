"""The exit codes of every command: one table, which `--help` and the docs show."""

from enum import IntEnum


class ExitCode(IntEnum):
    """What a command reports to the shell."""

    DONE = 0
    BAD_CONFIG = 2  # argparse's own code for wrong arguments
    NOTHING_FEASIBLE = 3
    MISSING = 4
    INTERRUPTED = 130  # 128 + SIGINT


MEANINGS: dict[ExitCode, str] = {
    ExitCode.DONE: "done",
    ExitCode.BAD_CONFIG: "invalid configuration or arguments",
    ExitCode.NOTHING_FEASIBLE: "no configuration meets the SLO of any tier",
    ExitCode.MISSING: "something is missing or does not answer: an engine, a model, a cluster, a file",
    ExitCode.INTERRUPTED: "interrupted; `wattfront resume` continues a study",
}


class Missing(Exception):
    """Something is missing on this machine or cluster. A line for each thing, with what to do."""


def exit_codes_text() -> str:
    """A line for each code."""
    return "\n".join(f"  {code.value:<4} {meaning}" for code, meaning in MEANINGS.items())
