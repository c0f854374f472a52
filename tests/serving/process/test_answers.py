"""What a call of the Serve replica came to, in one line without Ray's own words."""

from typing import Any

import pytest
from ray.exceptions import RayTaskError

from serving.deployment.application import _answer
from serving.errors import EngineRestarted, LaunchError


class Response:
    """Stands for Serve's response of a handle call."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def result(self, timeout_s: float) -> Any:
        raise self._error


NOISE = "\x1b[36mray::ServeReplica:wattfront:engine.start()\x1b[39m (pid=1, ip=127.0.0.1)\n  File x"


@pytest.mark.parametrize(
    ("cause", "line"),
    [
        (ValueError("Port out of range 0-65535"), "ValueError: Port out of range 0-65535"),
        (
            NotADirectoryError(20, "Not a directory", "/tmp/x"),
            "[Errno 20] Not a directory: '/tmp/x'",
        ),
    ],
)
def test_an_exception_of_the_replica_is_a_failure_to_start(cause: Exception, line: str) -> None:
    error = RayTaskError("start", NOISE, cause)
    with pytest.raises(LaunchError, match=r"^the engine can't be started: ") as caught:
        _answer(Response(error), 1.0)
    assert line in str(caught.value)
    assert "ray::" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


def test_a_replica_that_is_gone_says_so_without_colours() -> None:
    with pytest.raises(EngineRestarted, match=r"did not answer: it died$"):
        _answer(Response(TimeoutError("\x1b[36mit died\x1b[39m\nand more")), 1.0)
