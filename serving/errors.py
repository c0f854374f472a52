"""The ways in which an engine fails. Each is a result of a trial, not a bug of ours.

ServingError
├── LaunchError              the command could not be started at all (no such executable, no model)
│   └── BadFlags             the engine refused its command line
├── StartTimeout             not ready within its deadline
├── EngineExited             it exited by itself, at start or under load
│   └── OutOfMemory          ... for lack of device or host memory
├── EngineRestarted          another process answers than the one that was started
├── SupervisorDied           it was killed together with the process that supervises it
├── EngineLeft               a process of it does not end, even by SIGKILL
├── DeployFailed             Ray Serve did not stand its replica up, or not in time
├── PowerCapDenied           a GPU's power limit or clocks could not be set
├── PowerCapLost             ... or did not hold until the end
├── PowerCapLeft             ... or could not be restored: the GPU keeps the trial's settings
└── Unhealthy                it runs, but answers errors
"""

from pathlib import Path


class ServingError(Exception):
    """`evidence` is the one line that says why; `log` the path of the whole log, if there is one."""

    def __init__(self, evidence: str, log: Path | None = None) -> None:
        super().__init__(evidence)
        self.evidence = evidence
        self.log = log

    def __reduce__(self) -> tuple[type["ServingError"], tuple[str, Path | None]]:
        return type(self), (self.evidence, self.log)


class LaunchError(ServingError):
    """The command could not be started at all."""


class BadFlags(LaunchError):
    """The engine refused its command line."""


class StartTimeout(ServingError):
    """The engine was not ready within its deadline."""


class EngineExited(ServingError):
    """The engine exited by itself, at start or under load."""


class OutOfMemory(EngineExited):
    """The engine exited for lack of device or host memory."""


class EngineRestarted(ServingError):
    """Another process answers than the one that was started."""


class SupervisorDied(ServingError):
    """The engine was killed together with the process that supervises it."""


class EngineLeft(ServingError):
    """A process of an engine does not end, even by SIGKILL."""


class DeployFailed(ServingError):
    """Ray Serve did not stand the engine's replica up, or not in time."""


class Unhealthy(ServingError):
    """The engine runs, but answers errors or serves another model."""


class PowerCapDenied(ServingError):
    """A GPU's power limit or clocks could not be set."""


class PowerCapLost(ServingError):
    """A GPU's power limit or clocks did not hold until the end of the trial."""


class PowerCapLeft(ServingError):
    """A GPU's power limit or clocks could not be restored."""
