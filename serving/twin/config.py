"""What may be set of the twin: which machine it stands for, its power, its noise. Data only."""

from typing import Annotated, Literal

from pydantic import Field

from serving.topology import Strict, Topology

NonNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
System = Literal["b300_sxm", "b200_sxm", "h200_sxm"]


class Power(Strict):
    """Watts of one GPU: `serving.twin.engine.power` has the formula. None: the system's own cap.

    `band` is the relative error that these constants are known to within.
    """

    cap_w: Annotated[float, Field(gt=0)] | None = None
    idle: Share = 0.16
    floor: Share = 0.25
    compute: NonNegative = 150.0
    memory: NonNegative = 0.96
    exponent: Annotated[float, Field(ge=1)] = 2.4
    slowest: Annotated[float, Field(gt=0, le=1)] = 0.3
    band: Share = 0.15
    source: str = (
        "compute, memory: fitted on 26 November 2026 to ten measured means of B300 boards (InferenceX, "
        "10 September 2026: Qwen3.5-397B NVFP4, SGLang 0.5.19), off by 2 % where a layout is left out; "
        "floor: B200 kernels at 244 of 1,000 W (aiconfigurator-core 0.12.0); idle: H200 at 80 of 593 W, "
        "scaled"
    )


class Pools(Strict):
    """Prompts and output on different GPUs: so many engines of the trial's flags for each.

    `prefill_topology`: of those that compute prompts, where it is another.
    """

    prefill: Annotated[int, Field(ge=1)]
    decode: Annotated[int, Field(ge=1)]
    prefill_topology: Topology | None = None

    def devices(self, topology: Topology) -> int:
        """All GPUs of both."""
        first = self.prefill_topology or topology
        return self.prefill * first.devices + self.decode * topology.devices


class TwinConfig(Strict):
    """`noise`: standard deviation of the logarithm of a step's time. `start_scale`: 1 waits at start
    as long as the real engine would, 0 not at all.

    `acceptance`: the chance that a draft token is taken, where the engine's flags ask for speculation.
    """

    system: System
    power: Power = Power()
    noise: NonNegative = 0.02
    seed: int = Field(default=0, ge=0)
    start_scale: NonNegative = 0.0
    acceptance: Share = 0.7
    host_overhead: bool = True
    pools: Pools | None = None
