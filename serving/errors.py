"""The ways in which an engine fails. Each is a result of a trial, not a bug of ours.

ServingError
├── LaunchError              the command could not be started at all (no such executable, no model)
│   └── BadFlags             the engine refused its command line
├── StartTimeout             not ready within its deadline
├── EngineExited             it died by itself, at start or under load
│   └── OutOfMemory          ... for want of device or host memory
├── EngineRestarted          another process answers than the one that was started
├── PowerCapDenied           a GPU's power limit or clocks could not be set, or did not hold
├── PowerCapLeft             ... or not be set back: it stays as the trial had it
└── Unhealthy                it runs, but answers errors
"""

from pathlib import Path


class ServingError(Exception):
    """`evidence` is the one line that says why; `log` the whole log, if there is one."""

    def __init__(self, evidence: str, log: Path | None = None) -> None:
        super().__init__(evidence)
        self.evidence = evidence
        self.log = log

    def __reduce__(self) -> tuple[type["ServingError"], tuple[str, Path | None]]:
        return type(self), (self.evidence, self.log)


class LaunchError(ServingError): ...


class BadFlags(LaunchError): ...


class StartTimeout(ServingError): ...


class EngineExited(ServingError): ...


class OutOfMemory(EngineExited): ...


class EngineRestarted(ServingError): ...


class Unhealthy(ServingError): ...


class PowerCapDenied(ServingError): ...


class PowerCapLeft(ServingError): ...
