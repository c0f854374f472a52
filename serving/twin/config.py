"""The settings of the twin: the machine that it emulates, its power model and its noise. Data only."""

from typing import Annotated, Literal

from pydantic import Field

from serving.topology import Seed, Strict, Topology, Watts

Weight = Annotated[float, Field(ge=0, le=1_000_000)]
Share = Annotated[float, Field(ge=0, le=1)]
System = Literal["b300_sxm", "b200_sxm", "h200_sxm"]


class Power(Strict):
    """The power draw of one GPU; `serving.twin.engine.power` has the formula."""

    cap_w: Watts | None = Field(
        default=None, description="power cap of a GPU in W; null: the power limit of the system"
    )
    idle: Share = Field(
        default=0.16, description="power between steps, as a share of the power limit, 0 to 1"
    )
    floor: Share = Field(
        default=0.25,
        description="power of a step at zero utilization, as a share of the power limit, 0 to 1",
    )
    compute: Weight = Field(
        default=150.0,
        description="weight of the share of peak FLOP/s that a step reaches; no unit",
    )
    memory: Weight = Field(
        default=0.96,
        description="weight of the share of memory bandwidth that a step reaches; no unit",
    )
    exponent: Annotated[float, Field(ge=1, le=10)] = Field(
        default=2.4,
        description="exponent of dynamic power in the clock, where a cap lowers the clock",
    )
    slowest: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.3, description="lowest clock under a cap, as a share of the full clock, 0 to 1"
    )
    band: Share = Field(
        default=0.15, description="relative uncertainty of the modelled power, 0 to 1"
    )
    source: str = Field(
        default=(
            "compute, memory: fitted on 26 November 2026 to ten measured means of B300 boards "
            "(InferenceX, 10 September 2026: Qwen3.5-397B NVFP4, SGLang 0.5.19), off by 2 % where a "
            "layout is left out; floor: B200 kernels at 244 of 1,000 W (aiconfigurator-core 0.12.0); "
            "idle: H200 at 80 of 593 W, scaled"
        ),
        description="where the constants come from",
    )


class Pools(Strict):
    """Disaggregated prefill and decode, each on its own GPUs with the trial's flags."""

    prefill: Annotated[int, Field(ge=1, le=65_536, description="engines that compute prompts")]
    decode: Annotated[int, Field(ge=1, le=65_536, description="engines that decode")]
    prefill_topology: Topology | None = Field(
        default=None, description="topology of a prefill engine; null: the trial's own"
    )

    def devices(self, topology: Topology) -> int:
        """GPUs of all engines; `topology` is that of a decode engine."""
        prefill = self.prefill_topology or topology
        return self.prefill * prefill.devices + self.decode * topology.devices


class TwinConfig(Strict):
    """An emulated machine and the accuracy of its emulation."""

    system: System = Field(description="the emulated GPU system")
    power: Power = Field(default=Power(), description="the power model of a GPU")
    noise: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.02,
        description="standard deviation of the logarithm of a step's time; 0: no noise",
    )
    seed: Seed = Field(default=0, description="seed of the noise and of draft acceptance")
    start_scale: Annotated[float, Field(ge=0, le=1000)] = Field(
        default=0.0,
        description="startup time as a share of the real engine's; 0: ready at once, 1: as long",
    )
    acceptance: Share = Field(
        default=0.7,
        description="probability that a draft token is accepted, given that the one before it was",
    )
    host_overhead: bool = Field(
        default=True,
        description="whether steps and requests take the framework's fitted host overhead",
    )
    pools: Pools | None = Field(
        default=None,
        description="disaggregated prefill and decode pools, an older spelling of topology.prefill; null: none",
    )
