"""What the kernel says of a death: its log, where this account may read it, and its count of memory kills."""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

KMSG, VMSTAT = Path("/dev/kmsg"), Path("/proc/vmstat")
RECORD_BYTES = 8192  # the longest record
# priority,sequence,microseconds since boot,flags;text
RECORD = re.compile(r"^\d+,\d+,(\d+),[^;]*;(.*)$", re.MULTILINE)


def oom_kills() -> int:
    """How many processes the kernel has killed for lack of memory, of any cgroup; 0 if it does not count."""
    with contextlib.suppress(OSError):
        for line in VMSTAT.read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


def kernel_lines(since_s: float) -> list[str]:
    """The kernel's log from so many seconds after boot on; empty where this account may not read it."""
    found = "".join(_records())
    return [text for at_us, text in RECORD.findall(found) if int(at_us) / 1e6 >= since_s]


def _records() -> Iterator[str]:
    """A read returns one record; there is no further one when it would block."""
    with contextlib.suppress(OSError):
        file = os.open(KMSG, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            while True:
                try:
                    data = os.read(file, RECORD_BYTES)
                except BrokenPipeError:  # the next record was overwritten: the one after it follows
                    continue
                if not data:
                    return
                yield data.decode(errors="replace")
        finally:
            os.close(file)
