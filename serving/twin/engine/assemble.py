"""From an engine's flags to its emulation: step-time table, KV cache size, ranks."""

import zlib
from dataclasses import dataclass, replace

import numpy as np

from serving.twin.config import Power, TwinConfig
from serving.twin.engine.batch import SchedulerConfig
from serving.twin.engine.emulation import Emulation, Transfer
from serving.twin.engine.engine import ActivationHeadroom, Engine, HostCosts, Noise
from serving.twin.engine.host import host_costs
from serving.twin.engine.kv_blocks import BlockPool
from serving.twin.engine.power import GpuPeaks, PowerModel
from serving.twin.engine.rank import Rank
from serving.twin.engine.work import work_of
from serving.twin.errors import DoesNotFit, FlagError, TwinOutOfMemory
from serving.twin.setup import Setup
from serving.twin.tables.catalog import SYSTEMS, WEIGHT_BYTES, ModelFacts, SystemFacts, checkpoint
from serving.twin.tables.library import Library
from serving.twin.tables.steptime import StepTable, TableKey

# Precision by its name in the frameworks' flags and quantization configs.
WEIGHTS = {
    **dict.fromkeys(("bf16", "bfloat16", "half", "float16", "none"), "bf16"),
    **dict.fromkeys(("fp8", "modelopt", "modelopt_fp8", "w8a8_fp8", "fbgemm_fp8"), "fp8"),
    **dict.fromkeys(("nvfp4", "modelopt_fp4", "fp4", "petit_nvfp4"), "nvfp4"),
    **dict.fromkeys(("mxfp4", "gpt_oss_mxfp4"), "mxfp4"),
    "fp8_block": "fp8_block",
    "int4": "int4",
}
# Start of a real engine, assumed: weights from a local disk; then compilation, CUDA graphs, warm-up.
LOAD_BYTES_S, OTHER_START_S = 5e9, 20.0
FABRIC_BYTES_S = 100e9  # per GPU, 8 × 800 Gb/s a node (systems/b300_sxm.yaml: inter_node_bw)


@dataclass(frozen=True, slots=True)
class Assembled:
    """An emulation, and what its engine reports. `kv_tokens`: of one rank; `weights_bytes`: of one GPU;
    `version`: of the table."""

    emulation: Emulation
    kv_tokens: int
    weights_bytes: float
    version: str
    key: TableKey

    @property
    def start_s(self) -> float:
        """Seconds from the real engine's command to its first request."""
        return self.weights_bytes / LOAD_BYTES_S + OTHER_START_S


def assemble(
    setup: Setup, config: TwinConfig, library: Library | None = None, *, engines: int = 1
) -> Assembled:
    """The emulation of so many engines behind a router. Raises FlagError for what is not modelled, NoTable,
    TwinOutOfMemory.
    """
    spec = _engine_spec(setup, config, library)
    tokens = spec.kv_tokens
    emulation = Emulation(spec.engines(0, engines), host=spec.host)
    return Assembled(
        emulation, tokens, spec.table.memory.weights_bytes, spec.table.version, spec.table.key
    )


def assemble_disaggregated(
    prefill: Setup,
    decode: Setup,
    config: TwinConfig,
    *,
    prefill_engines: int,
    decode_engines: int,
    library: Library | None = None,
) -> Assembled:
    """Prefill and decode engines of their own; the KV cache of a prompt is sent over the GPUs' network.

    Raises as `assemble` does.
    """
    first = _engine_spec(prefill, config, library)
    then = _engine_spec(decode, config, library)
    memory = first.table.memory
    transfer = Transfer(memory.kv_bytes_per_token, FABRIC_BYTES_S)
    emulation = Emulation(
        first.engines(0, prefill_engines),
        host=first.host,
        decode_engines=then.engines(prefill_engines, decode_engines),
        transfer=transfer,
    )
    return Assembled(
        emulation, then.kv_tokens, memory.weights_bytes, first.table.version, then.table.key
    )


@dataclass(frozen=True, slots=True)
class _EngineSpec:
    """All that engines of one command line are made from; `kv_tokens` of one rank."""

    setup: Setup
    config: TwinConfig
    facts: ModelFacts
    system: SystemFacts
    table: StepTable
    host: HostCosts
    kv_tokens: int

    def engines(self, begin: int, copies: int) -> list[Engine]:
        """Copies of the engine, numbered from `begin` on; data-parallel ranks not in lockstep are engines."""
        each = 1 if self.setup.lockstep else self.setup.data
        return [
            self._engine((begin + i) * each + rank) for i in range(copies) for rank in range(each)
        ]

    def _engine(self, index: int) -> Engine:
        setup, config = self.setup, self.config
        seeds = np.random.SeedSequence([config.seed, flags_seed(setup), index])
        rng, noise = (np.random.default_rng(seed) for seed in seeds.spawn(2))
        scheduler = scheduler_config(setup, config.acceptance)
        blocks = self.kv_tokens // setup.block_tokens
        ranks = [
            Rank(
                scheduler,
                BlockPool(blocks, setup.block_tokens, prefix_caching=setup.prefix_caching),
                rng,
            )
            for _ in range(setup.data if setup.lockstep else 1)
        ]
        return Engine(
            ranks,
            self.table,
            host=self.host,
            power=PowerModel(self._gpu_peaks(), config.power),
            work=work_of(self.facts, self.table, setup.draft_tokens),
            gpus_per_rank=setup.tensor,
            noise=Noise(config.noise, noise),
            draft_cost=1 / self.facts.layers,
            headroom=self._headroom(),
        )

    def _headroom(self) -> ActivationHeadroom | None:
        """SGLang sizes its cache without profiling a step, so a large one may run out of memory."""
        if self.setup.framework != "sglang":
            return None
        memory = self.table.memory
        used = memory.weights_bytes + memory.other_bytes + memory.communication_bytes
        used += memory.kv_bytes_per_request * self.setup.max_sequences
        used += self.kv_tokens * memory.kv_bytes_per_token + memory.activation_bytes_base
        free = self.system.memory_bytes - used
        return ActivationHeadroom(free, memory.activation_bytes_per_token)

    def _gpu_peaks(self) -> GpuPeaks:
        system = self.system
        peak_flop_s = system.peak_flop_s(self.table.key.weights)
        return GpuPeaks(system.bandwidth_bytes_per_s, peak_flop_s, system.power_cap_w)


def flags_seed(setup: Setup) -> int:
    """A hash of all flags but the address, so that configurations differ in their noise.

    It is of the text of Setup: a renamed field changes the noise of every emulation.
    """
    return zlib.crc32(repr(replace(setup, host="", port=0, served_model="")).encode())


def scheduler_config(setup: Setup, acceptance: float) -> SchedulerConfig:
    """The flags that decide on a rank's batches."""
    return SchedulerConfig(
        max_sequences=setup.max_sequences,
        step_tokens=setup.step_tokens,
        chunked=setup.chunked,
        mixed=setup.mixed,
        reserve=setup.reserve,
        conservativeness=setup.conservativeness,
        draft_tokens=setup.draft_tokens,
        acceptance=acceptance,
        receive_steps=setup.receive_steps,
    )


def _check_cap(power: Power, max_w: float) -> None:
    """At its lowest clock a GPU still draws some power under full load: no cap can go below that."""
    least_w = max_w * (power.floor + (1 - power.floor) * power.slowest**power.exponent)
    if power.cap_w is not None and power.cap_w < least_w:
        raise FlagError(
            f"a power cap of {power.cap_w:g} W is too low: the GPU draws {least_w:.0f} W at its lowest clock"
        )


def _engine_spec(setup: Setup, config: TwinConfig, library: Library | None) -> _EngineSpec:
    _check_cap(config.power, SYSTEMS[config.system].power_cap_w)
    if setup.pipeline > 1:
        raise FlagError("the twin has no measurements of pipeline parallelism: use pipeline size 1")
    facts, weights = resolve_model(setup)
    if setup.framework == "vllm" and facts.moe and setup.data > 1:
        setup = replace(setup, lockstep=True)  # it shards experts over all ranks, EP or not
    key = TableKey(
        config.system,
        setup.framework,
        facts.key,
        weights,
        "fp8" if setup.kv.startswith("fp8") else "bf16",
        setup.tensor,
        setup.data if setup.lockstep else 1,
        setup.expert,
    )
    try:
        table = (library or Library.installed()).table(key)
    except DoesNotFit as error:
        need = facts.parameters * WEIGHT_BYTES[weights] / setup.gpus
        raise TwinOutOfMemory(need, SYSTEMS[config.system].memory_bytes, "weights") from error
    system = SYSTEMS[config.system]
    host = host_costs(setup, facts) if config.host_overhead else HostCosts()
    return _EngineSpec(setup, config, facts, system, table, host, _kv_tokens(setup, table, system))


def resolve_model(setup: Setup) -> tuple[ModelFacts, str]:
    """The architecture, and the precision of its weights: the checkpoint's, or what flags quantize it to.

    Raises FlagError.
    """
    known = checkpoint(setup.model)
    if known is None:
        raise FlagError(f"the twin does not know the model {setup.model}")
    facts, own = known
    if setup.weights == "auto":
        return facts, own
    asked = WEIGHTS.get(setup.weights)
    if asked is None:
        raise FlagError(f"the twin has no measurements of quantization {setup.weights}")
    if own.startswith("fp8") and asked == "fp8":
        asked = own  # the flag names the checkpoint's own format
    if own not in ("bf16", asked):
        raise FlagError(
            f"{setup.model} has {own} weights: quantization {setup.weights} is not possible"
        )
    return facts, asked


def _kv_tokens(setup: Setup, table: StepTable, system: SystemFacts) -> int:
    """KV cache size of a rank, by the framework's own rule for its memory fraction."""
    memory, have = table.memory, float(system.memory_bytes)
    fixed = memory.fixed_bytes(setup.step_tokens)
    if memory.weights_bytes + memory.other_bytes > have:
        raise TwinOutOfMemory(memory.weights_bytes, have, "weights")
    share = setup.memory_fraction
    match setup.framework:
        case "vllm":  # the fraction covers weights, activations and everything else
            room = share * have - fixed
        case "sglang":  # the fraction covers weights and cache; activations use the rest
            room = share * have - memory.weights_bytes - memory.other_bytes
        case "trtllm":  # the fraction is of the memory that everything else leaves free
            room = share * (have - fixed)
    room -= memory.kv_bytes_per_request * setup.max_sequences
    if room <= 0:
        raise TwinOutOfMemory(have - room, have, "cache")
    tokens = int(room / memory.kv_bytes_per_token)
    if setup.kv_tokens_limit is not None:
        tokens = min(tokens, setup.kv_tokens_limit)
    if tokens < setup.context_tokens:
        raise TwinOutOfMemory(setup.context_tokens * memory.kv_bytes_per_token, room, "context")
    return tokens - tokens % setup.block_tokens
