"""The ways in which an engine fails. Each is a result of a trial, not a bug of ours.

The second level says to what a failure belongs. Only what belongs to the configuration fails again wherever the
configuration runs; all else may succeed on another node.

ServingError
├── ConfigurationFault       the engine, its flags and its model: the same on every node
│   ├── LaunchError              the command could not be started at all
│   │   └── BadFlags             the engine refused its command line
│   ├── StartTimeout             not ready within its deadline
│   ├── EngineExited             it exited by itself, at start or under load
│   │   ├── OutOfMemory          ... for lack of memory
│   │   │   └── KvCacheTooSmall  ... as no request of full length fits into the KV cache
│   │   ├── CudaFailed           ... as a kernel failed on the GPU: illegal access, assertion
│   │   └── Unsupported          ... as this GPU or build lacks the architecture, precision or kernel
│   ├── GpusUnused               it runs on fewer GPUs than its layout reserves
│   ├── EngineHung               it runs, but makes no progress
│   ├── Unhealthy                it runs, but answers errors
│   └── PowerCapDenied           a GPU's power limit or clocks could not be set
├── NodeFault                the state of a node: its files, ports, memory, driver
│   ├── GpuOccupied              another process holds memory of the GPU
│   ├── HostOutOfMemory          the kernel killed a process for lack of host memory
│   ├── SharedMemoryExhausted    /dev/shm is too small
│   ├── DiskFull                 no space left on a disk
│   ├── PortTaken                another process has the port
│   ├── DriverMismatch           the driver shows no GPU, or does not fit the CUDA libraries
│   ├── ContainerFailed          the container could not be started
│   ├── EnvironmentBroken        a package or library of the engine is missing
│   ├── WeightsMissing           files of the model are missing
│   ├── DeployFailed             Ray Serve did not stand its replica up, or not in time
│   ├── EngineRestarted          another process answers than the one that was started
│   ├── SupervisorDied           it was killed together with the process that supervises it
│   ├── EngineLeft               a process of it does not end, even by SIGKILL
│   ├── PowerCapLost             a GPU's power limit or clocks did not hold until the end
│   └── PowerCapLeft             ... or could not be restored: the GPU keeps the trial's settings
├── RightsFault              what an account or a token may do
│   └── ModelGated               the hub refuses the model's files
├── NetworkFault             the links between GPUs and nodes
│   ├── FabricFailed             NCCL or its transport failed
│   └── PeerLost                 a process on the other end is gone
└── MachineFault             the hardware of a node
    └── GpuFailed                an uncorrectable error of a GPU (ECC, XID)
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

FaultDomain = Literal["configuration", "node", "rights", "network", "machine"]
Phase = Literal["", "start", "load", "capture", "warm-up", "under load"]


class ServingError(Exception):
    """`evidence` is the one line that says why; `log` the path of the whole log, if there is one.

    `phase`: what the engine was doing; empty: unknown. `remedy`: one sentence on what to change.
    """

    domain: ClassVar[FaultDomain] = "configuration"

    def __init__(
        self, evidence: str, log: Path | None = None, *, phase: Phase = "", remedy: str = ""
    ) -> None:
        super().__init__(evidence)
        self.evidence = evidence
        self.log = log
        self.phase: Phase = phase
        self.remedy = remedy

    def __reduce__(self) -> tuple[type["ServingError"], tuple[str, Path | None], dict[str, Any]]:
        more = {"phase": self.phase, "remedy": self.remedy}
        return type(self), (self.evidence, self.log), more


class ConfigurationFault(ServingError):
    """The engine, its flags and its model fail: the same on every node."""


class NodeFault(ServingError):
    """The state of a node: its files, ports, memory, driver."""

    domain: ClassVar[FaultDomain] = "node"


class RightsFault(ServingError):
    """What an account or a token may not do."""

    domain: ClassVar[FaultDomain] = "rights"


class NetworkFault(ServingError):
    """The links between GPUs and nodes."""

    domain: ClassVar[FaultDomain] = "network"


class MachineFault(ServingError):
    """The hardware of a node."""

    domain: ClassVar[FaultDomain] = "machine"


class LaunchError(ConfigurationFault):
    """The command could not be started at all."""


class BadFlags(LaunchError):
    """The engine refused its command line."""


class StartTimeout(ConfigurationFault):
    """The engine was not ready within its deadline."""


class EngineExited(ConfigurationFault):
    """The engine exited by itself, at start or under load."""


class OutOfMemory(EngineExited):
    """The engine exited for lack of device or host memory."""


class KvCacheTooSmall(OutOfMemory):
    """No request of full length fits into the KV cache."""


class CudaFailed(EngineExited):
    """A kernel failed on the GPU: an illegal access, an assertion, a failed launch."""


class Unsupported(EngineExited):
    """This GPU or this build lacks the model's architecture, its precision or a kernel."""


class GpusUnused(ConfigurationFault):
    """The engine runs on fewer GPUs than its layout reserves: figures per GPU would be wrong."""


class EngineHung(ConfigurationFault):
    """The engine runs, but makes no progress."""


class Unhealthy(ConfigurationFault):
    """The engine runs, but answers errors or serves another model."""


class PowerCapDenied(ConfigurationFault):
    """A GPU's power limit or clocks could not be set."""


class GpuOccupied(NodeFault):
    """Another process holds memory of the GPU."""


class HostOutOfMemory(NodeFault):
    """The kernel killed a process of the engine for lack of host memory."""


class SharedMemoryExhausted(NodeFault):
    """/dev/shm is too small."""


class DiskFull(NodeFault):
    """A disk has no space left."""


class PortTaken(NodeFault):
    """Another process has the port: retried on another port."""


class DriverMismatch(NodeFault):
    """The GPU driver shows no GPU, or does not fit the CUDA libraries."""


class ContainerFailed(NodeFault):
    """The container could not be started."""


class EnvironmentBroken(NodeFault):
    """A package or library of the engine is missing."""


class WeightsMissing(NodeFault):
    """Files of the model are missing."""


class DeployFailed(NodeFault):
    """Ray Serve did not stand the engine's replica up, or not in time."""


class EngineRestarted(NodeFault):
    """Another process answers than the one that was started."""


class SupervisorDied(NodeFault):
    """The engine was killed together with the process that supervises it."""


class EngineLeft(NodeFault):
    """A process of an engine does not end, even by SIGKILL."""


class PowerCapLost(NodeFault):
    """A GPU's power limit or clocks did not hold until the end of the trial."""


class PowerCapLeft(NodeFault):
    """A GPU's power limit or clocks could not be restored."""


class ModelGated(RightsFault):
    """The hub refuses the model's files."""


class FabricFailed(NetworkFault):
    """NCCL or its transport failed."""


class PeerLost(NetworkFault):
    """A process on the other end of a connection is gone."""


class GpuFailed(MachineFault):
    """An uncorrectable hardware error of a GPU."""


def _all(kind: type[ServingError]) -> Iterator[type[ServingError]]:
    yield kind
    for each in kind.__subclasses__():
        yield from _all(each)


# Name of a class of this file → to what it belongs.
DOMAINS: dict[str, FaultDomain] = {each.__name__: each.domain for each in _all(ServingError)}
