"""Sets GPUs' power limits and clocks, and restores them when its owner closes a pipe or is dead.

    python -m serving.gpu.keeper '{"devices": ["0"], "limit_w": 500, "sm_clock_mhz": null}'

Standard input is a pipe that the owner holds open. Standard output gets one JSON line when the GPUs are set
(`{"set": {GPU: watts before}}` or `{"denied": why}`) and one when they are restored (`{"restored": …}` or
`{"left": why}`). Forks twice, as `serving.process.supervise` does: Ray kills the direct children of a worker
that exits, and this process must survive that.

Power limits are read before they are changed, and written back. NVML does not report locked clocks: they are
reset to the default.
"""

import contextlib
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from serving.telemetry.nvml import handle, nvml_error, session

LOCK_S, POLL_S = 30.0, 0.05
RIGHTS = "this needs root or CAP_SYS_ADMIN on the node: start its Ray node with that, or unset the setting"


class DeniedError(Exception):
    """Why no setting was changed, in one line."""


@contextmanager
def held(name: str) -> Iterator[None]:
    """One keeper per GPU: the next one reads the limit only once the last one has restored it."""
    with socket.socket(socket.AF_UNIX) as lock:
        deadline = time.monotonic() + LOCK_S
        while True:
            try:
                lock.bind(f"\0wattfront-gpu-{name}")
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise DeniedError(f"{name}: its settings are held by another trial") from None
                time.sleep(POLL_S)
        yield


@contextmanager
def kept(settings: dict[str, Any]) -> Iterator[dict[str, float]]:
    """Settings for the length of a with block; yields the power limits before it, GPU → watts.

    Raises DeniedError, with all GPUs as they were.
    """
    limit_w, clock_mhz = settings["limit_w"], settings["sm_clock_mhz"]
    before: dict[str, float] = {}
    with ExitStack() as stack:
        try:
            nvml = stack.enter_context(session())
            boards = [handle(nvml, each) for each in settings["devices"]]
            names = [nvml.nvmlDeviceGetUUID(each) for each in boards]
        except nvml_error() as error:
            raise DeniedError(f"GPU {', '.join(settings['devices'])}: {error}") from error
        for name in sorted(names):
            stack.enter_context(held(name))
        for name, board in zip(names, boards, strict=True):
            if limit_w is not None:
                before[name] = stack.enter_context(_limited(nvml, board, name, limit_w))
            if clock_mhz is not None:
                stack.enter_context(_locked(nvml, board, name, clock_mhz))
        yield before


@contextmanager
def _limited(nvml: Any, board: Any, name: str, limit_w: float) -> Iterator[float]:
    try:
        before_mw = nvml.nvmlDeviceGetPowerManagementLimit(board)
        least_mw, most_mw = nvml.nvmlDeviceGetPowerManagementLimitConstraints(board)
    except nvml.NVMLError as error:
        raise DeniedError(f"{name}: its power limit can't be read: {error}") from error
    wanted_mw = round(limit_w * 1000)
    if not least_mw <= wanted_mw <= most_mw:
        raise DeniedError(
            f"{name}: a power limit of {limit_w:g} W is not possible, "
            f"only {least_mw / 1000:g} to {most_mw / 1000:g} W"
        )
    _set(
        nvml,
        f"{name}: power limit",
        lambda: nvml.nvmlDeviceSetPowerManagementLimit(board, wanted_mw),
    )
    try:
        yield before_mw / 1000
    finally:
        nvml.nvmlDeviceSetPowerManagementLimit(board, before_mw)


@contextmanager
def _locked(nvml: Any, board: Any, name: str, clock_mhz: int) -> Iterator[None]:
    _set(
        nvml,
        f"{name}: locked clocks",
        lambda: nvml.nvmlDeviceSetGpuLockedClocks(board, clock_mhz, clock_mhz),
    )
    try:
        yield
    finally:
        nvml.nvmlDeviceResetGpuLockedClocks(board)


def _set(nvml: Any, what: str, change: Callable[[], object]) -> None:
    try:
        change()
    except nvml.NVMLError as error:
        rights = f" ({RIGHTS})" if error.value == nvml.NVML_ERROR_NO_PERMISSION else ""
        raise DeniedError(f"{what}: {error}{rights}") from error


def report(answer: dict[str, Any]) -> None:
    """Writes a line for the owner, if it is alive."""
    with contextlib.suppress(BrokenPipeError):
        os.write(1, json.dumps(answer).encode() + b"\n")


def stop_pipe() -> int:
    """Readable after SIGTERM. From here on no signal ends this process but SIGKILL."""
    stop, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGTERM, lambda *_: None)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    return stop


def wait(stop: int) -> None:
    """Waits until the owner closes its pipe, or SIGTERM."""
    while True:
        ready, _, _ = select.select([0, stop], [], [])
        if stop in ready or not os.read(0, 4096):
            return


def keep(settings: dict[str, Any], stop: int) -> None:
    """Sets the GPUs, waits, restores them, and reports both."""
    try:
        with kept(settings) as before:
            report({"set": before})
            wait(stop)
    except DeniedError as denied:
        report({"denied": str(denied)})
    except nvml_error() as error:
        report({"left": str(error)})
    else:
        report({"restored": before})


def main(arguments: Sequence[str]) -> None:
    """Detaches, then keeps the settings of the one argument."""
    if os.fork():
        os._exit(0)
    os.setsid()
    if os.fork():
        os._exit(0)
    keep(json.loads(arguments[0]), stop_pipe())


if __name__ == "__main__":
    main(sys.argv[1:])
