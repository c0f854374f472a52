"""The twin's exceptions. Imports nothing of the emulator."""

from typing import Literal

from serving.errors import LaunchError


class FlagError(Exception):
    """The twin can't read this command line, or does not model what it requests; one line says why."""


class EngineExit(Exception):
    """The real engine would print this text and exit with this code."""

    def __init__(self, output: str, exit_code: int) -> None:
        super().__init__(output)
        self.output, self.exit_code = output, exit_code


class TwinOutOfMemory(Exception):
    """An engine finds too little GPU memory at its start.

    `kind`: what does not fit: the weights, any KV cache beside them, or one whole context in the cache.
    """

    def __init__(
        self, need_bytes: float, have_bytes: float, kind: Literal["weights", "cache", "context"]
    ) -> None:
        super().__init__(
            f"{kind}: {need_bytes / 1e9:.1f} GB needed, {have_bytes / 1e9:.1f} GB available"
        )
        self.need_bytes, self.have_bytes, self.kind = need_bytes, have_bytes, kind


class DeviceMemoryExhausted(Exception):
    """A step's activations exceed the free GPU memory: the engine crashes under load."""

    def __init__(self, need_bytes: float, have_bytes: float) -> None:
        super().__init__(
            f"a step needs {need_bytes / 1e9:.1f} GB, {have_bytes / 1e9:.1f} GB are free"
        )
        self.need_bytes, self.have_bytes = need_bytes, have_bytes


class NoTable(LaunchError):
    """There is no step-time table: never measured, or the configuration can't run. One line says which."""


class DoesNotFit(NoTable):
    """The weights alone exceed the memory of the GPUs."""


class NoClosedForm(Exception):
    """The steady state of this load has no closed form, or the engine would reject its requests: one
    line says why."""


class NoData(Exception):
    """The kernel database has no measurements for this, which is a normal result: one line says what."""
