"""Ends what a killed owner leaves behind: processes, and their folder. Also a script: standard library only.

    python -S -E reap.py FOLDER PID-START…      (stdin: a pipe that the owner holds open)

For grandchildren that can't run under a supervisor: Ray's agents take more than a minute to notice that the
head node ended with its driver.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PATIENCE_S, POLL_S = 2.0, 0.1
INHERITED = ("PATH", "LD_LIBRARY_PATH")


@contextmanager
def reaped(generations: list[str], folder: str) -> Iterator[None]:
    """Kills those of `generations` that are left PATIENCE_S after the block, or this process, ended.

    Then removes their folder.
    """
    read_end, write_end = os.pipe()
    try:
        watcher = subprocess.Popen(
            [sys.executable, "-S", "-E", __file__, folder, *generations],
            stdin=read_end,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env={name: os.environ[name] for name in INHERITED if name in os.environ},
        )
    finally:
        os.close(read_end)
    with watcher, os.fdopen(write_end, "wb"):
        yield


def alive(generation: str) -> bool:
    """Whether the process of that pid is still the one with that start time."""
    pid, _, start = generation.partition("-")
    try:
        stat = Path("/proc", pid, "stat").read_text()
    except OSError:
        return False
    fields = stat[stat.rindex(")") + 2 :].split()
    return fields[0] not in "ZX" and fields[19] == start


def main() -> None:
    """Waits for the end of standard input, then for the processes; kills those that are left."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while os.read(0, 4096):
        pass
    folder, *generations = sys.argv[1:]
    end(generations)
    deadline = time.monotonic() + PATIENCE_S
    while Path(folder).exists():
        # Their children may write for a moment longer.
        shutil.rmtree(folder, ignore_errors=True)
        if time.monotonic() > deadline:
            return
        time.sleep(POLL_S)


def end(generations: list[str]) -> None:
    """Waits for the processes, and kills those that are left after PATIENCE_S."""
    deadline = time.monotonic() + PATIENCE_S
    while left := [each for each in generations if alive(each)]:
        if time.monotonic() > deadline:
            for each in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(each.partition("-")[0]), signal.SIGKILL)
            return
        time.sleep(POLL_S)


if __name__ == "__main__":
    main()
