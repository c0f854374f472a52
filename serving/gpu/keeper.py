"""Sets GPUs' power limits and clocks, and restores them when its owner closes a pipe or is dead.

    python -m serving.gpu.keeper '{"devices": ["0"], "limit_w": 500, "sm_clock_mhz": null}'

Standard input is a pipe that the owner holds open. Standard output gets JSON lines: `{"keeper": generation}`
at once; `{"set": {GPU: watts before}}` or `{"denied": why}`; when they are restored `{"restored": …, "early":
before the owner's end}` or `{"left": why}`. Forks twice, as `serving.process.supervise` does: Ray kills the
direct children of a worker that exits, and this process must survive that.

Power limits are read and recorded on disk before they are changed, and written back. What a keeper that was
killed has left is restored first, by its record. NVML does not report locked clocks: they are reset to the
default. With neither setting, this only restores.
"""

import contextlib
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from serving.errors import LaunchError
from serving.gpu import record
from serving.gpu.record import Original
from serving.process.generation import generation
from serving.process.locks import locked
from serving.telemetry.nvml import handle, nvml_error, session

LOCK_S, POLL_S = 30.0, 0.05
RIGHTS = "this needs root or CAP_SYS_ADMIN on the node: start its Ray node with that, or unset the setting"


class DeniedError(Exception):
    """Why no setting was changed, in one line."""


@contextmanager
def held(name: str) -> Iterator[None]:
    """One keeper per GPU: the next one reads the limit only once the last one has restored it."""
    deadline = time.monotonic() + LOCK_S
    try:
        while (lock := locked(f"gpu-settings-{name.replace('/', '-')}")) is None:
            if time.monotonic() > deadline:
                raise DeniedError(f"{name}: its settings are held by another trial")
            time.sleep(POLL_S)
    except LaunchError as error:
        raise DeniedError(str(error)) from error
    try:
        yield
    finally:
        os.close(lock)


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
            _recover(nvml, board, name)
            stack.enter_context(_recorded(nvml, board, name, limit_w, clock_mhz))
            if limit_w is not None:
                before[name] = stack.enter_context(_limited(nvml, board, name, limit_w))
            if clock_mhz is not None:
                stack.enter_context(_locked(nvml, board, name, clock_mhz))
        yield before


def _recover(nvml: Any, board: Any, name: str) -> None:
    """Restores what a keeper that was killed has left. A limit that somebody changed since stays."""
    left = record.load(name)
    if left is not None:
        what = f"{name}: settings that an earlier trial left"
        if left.before_mw and nvml.nvmlDeviceGetPowerManagementLimit(board) == left.set_mw:
            _set(
                nvml,
                what,
                lambda: nvml.nvmlDeviceSetPowerManagementLimit(board, left.before_mw),
            )
        if left.clocks_locked:
            _set(nvml, what, lambda: nvml.nvmlDeviceResetGpuLockedClocks(board))
    record.drop(name)


@contextmanager
def _recorded(
    nvml: Any, board: Any, name: str, limit_w: float | None, clock_mhz: int | None
) -> Iterator[None]:
    """Records what is about to be changed; the record stays if restoring it fails."""
    if limit_w is None and clock_mhz is None:
        yield
        return
    try:
        before_mw = None
        if limit_w is not None:
            before_mw = nvml.nvmlDeviceGetPowerManagementLimit(board)
        set_mw = None if limit_w is None else round(limit_w * 1000)
        record.save(name, Original(before_mw, set_mw, clock_mhz is not None))
    except nvml.NVMLError as error:
        raise DeniedError(f"{name}: its power limit can't be read: {error}") from error
    except OSError as error:
        raise DeniedError(
            f"{record.folder()}: {error.strerror}: its settings can't be recorded, so they are not changed: "
            "set WATTFRONT_HOME to a folder of your own"
        ) from error
    restored = False
    try:
        yield
        restored = True
    except DeniedError:  # raised before the block, with everything as it was
        restored = True
        raise
    finally:
        if restored:
            record.drop(name)


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


def wait(stop: int) -> bool:
    """Waits until the owner closes its pipe, or SIGTERM. Whether it was the owner."""
    while True:
        ready, _, _ = select.select([0, stop], [], [])
        if 0 in ready and not os.read(0, 4096):
            return True
        if stop in ready:
            return False


def keep(settings: dict[str, Any], stop: int) -> None:
    """Sets the GPUs, waits, restores them, and reports both."""
    report({"keeper": generation(os.getpid())})
    try:
        with kept(settings) as before:
            report({"set": before})
            early = not wait(stop)
    except DeniedError as denied:
        report({"denied": str(denied)})
    except nvml_error() as error:
        report({"left": str(error)})
    else:
        report({"restored": before, "early": early})


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
