"""A deadline for calls that have none of their own."""

import queue
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def within(timeout_s: float, call: Callable[[], T]) -> T:
    """What `call` returns or raises; TimeoutError after `timeout_s`, and its thread stays until it ends."""
    answers: queue.SimpleQueue[tuple[bool, T | BaseException]] = queue.SimpleQueue()

    def run() -> None:
        try:
            answers.put((True, call()))
        except BaseException as error:  # noqa: BLE001  (raised by the thread that waits)
            answers.put((False, error))

    threading.Thread(target=run, daemon=True, name="within").start()
    try:
        returned, answer = answers.get(timeout=timeout_s)
    except queue.Empty:
        raise TimeoutError(f"no answer within {timeout_s:g} s") from None
    if isinstance(answer, BaseException) and not returned:
        raise answer
    return answer  # type: ignore[return-value]
