"""From an engine's flags to an emulation of it: tables, memory, ranks. Raises what the engine would die of."""

import zlib
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from serving.twin.config import Power, TwinConfig
from serving.twin.engine.batch import Scheduling
from serving.twin.engine.blocks import Blocks
from serving.twin.engine.emulation import Emulation, Transfer
from serving.twin.engine.engine import Engine, HostCosts, Noise, Spare
from serving.twin.engine.host import host_costs
from serving.twin.engine.power import Machine, PowerModel
from serving.twin.engine.rank import Rank
from serving.twin.engine.work import work_of
from serving.twin.setup import FlagError, Setup
from serving.twin.tables.catalog import SYSTEMS, WEIGHT_BYTES, ModelFacts, SystemFacts, checkpoint
from serving.twin.tables.library import DoesNotFit, Library
from serving.twin.tables.steptime import StepTable, TableKey

# What the frameworks call a precision, in their flags and quantization configs.
WEIGHTS = {
    **dict.fromkeys(("bf16", "bfloat16", "half", "float16", "none"), "bf16"),
    **dict.fromkeys(("fp8", "modelopt", "modelopt_fp8", "w8a8_fp8", "fbgemm_fp8"), "fp8"),
    **dict.fromkeys(("nvfp4", "modelopt_fp4", "fp4", "petit_nvfp4"), "nvfp4"),
    **dict.fromkeys(("mxfp4", "gpt_oss_mxfp4"), "mxfp4"),
    "fp8_block": "fp8_block",
    "int4": "int4",
}
PEAK = {"bf16": "bf16", "nvfp4": "fp4", "int4": "bf16", "mxfp4": "fp8"}  # else fp8
# Assumed: weights from a local disk; then compiling, graphs, warm-up.
LOAD_BYTES_S, OTHER_START_S = 5e9, 20.0
FABRIC_BYTES_S = 100e9  # per GPU, 8 × 800 Gb/s a node (systems/b300_sxm.yaml: inter_node_bw)


class TwinOutOfMemory(Exception):
    """`kind`: the weights don't fit; nothing is left for the cache; it can't hold one context."""

    def __init__(
        self, need_bytes: float, have_bytes: float, kind: Literal["weights", "cache", "context"]
    ) -> None:
        super().__init__(
            f"{kind}: {need_bytes / 1e9:.1f} GB are needed, {have_bytes / 1e9:.1f} are there"
        )
        self.need_bytes, self.have_bytes, self.kind = need_bytes, have_bytes, kind


@dataclass(frozen=True, slots=True)
class Assembled:
    """`kv_tokens`: of one rank. `weights_bytes`: of one GPU. `version`: of the table."""

    emulation: Emulation
    kv_tokens: int
    weights_bytes: float
    version: str
    key: TableKey

    @property
    def start_s(self) -> float:
        """From the real engine's command to its first request: reading the weights, and all else."""
        return self.weights_bytes / LOAD_BYTES_S + OTHER_START_S


def assemble(setup: Setup, config: TwinConfig, library: Library | None = None) -> Assembled:
    """Raises FlagError (a model or a precision that there is none of), NoTable, TwinOutOfMemory."""
    plan = _plan(setup, config, library)
    tokens = plan.kv_tokens
    emulation = Emulation(plan.engines(0, 1), host=plan.host)
    return Assembled(
        emulation, tokens, plan.table.memory.weights_bytes, plan.table.version, plan.table.key
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
    """So many engines of each kind; the cache of a prompt travels at the network's pace of its GPUs."""
    first, then = _plan(prefill, config, library), _plan(decode, config, library)
    memory = first.table.memory
    transfer = Transfer(memory.kv_bytes_per_token, FABRIC_BYTES_S)
    emulation = Emulation(
        first.engines(0, prefill_engines),
        host=first.host,
        decoders=then.engines(prefill_engines, decode_engines),
        transfer=transfer,
    )
    return Assembled(
        emulation, then.kv_tokens, memory.weights_bytes, first.table.version, then.table.key
    )


@dataclass(frozen=True, slots=True)
class _Plan:
    setup: Setup
    config: TwinConfig
    facts: ModelFacts
    system: SystemFacts
    table: StepTable
    host: HostCosts
    kv_tokens: int

    def engines(self, begin: int, copies: int) -> list[Engine]:
        """Of so many copies; data-parallel ranks that do not step together are engines of their own."""
        each = 1 if self.setup.lockstep else self.setup.data
        return [
            self._engine((begin + i) * each + rank) for i in range(copies) for rank in range(each)
        ]

    def _engine(self, index: int) -> Engine:
        setup, config = self.setup, self.config
        told = repr(replace(setup, host="", port=0, served_model=""))
        seeds = np.random.SeedSequence([config.seed, zlib.crc32(told.encode()), index])
        rng, noise = (np.random.default_rng(seed) for seed in seeds.spawn(2))
        scheduling = scheduling_of(setup, config.acceptance)
        blocks = self.kv_tokens // setup.block_tokens
        ranks = [
            Rank(
                scheduling,
                Blocks(blocks, setup.block_tokens, prefix_caching=setup.prefix_caching),
                rng,
            )
            for _ in range(setup.data if setup.lockstep else 1)
        ]
        return Engine(
            ranks,
            self.table,
            host=self.host,
            power=PowerModel(self._machine(), config.power),
            work=work_of(self.facts, self.table, setup.draft_tokens),
            gpus_per_rank=setup.tensor,
            noise=Noise(config.noise, noise),
            draft_cost=1 / self.facts.layers,
            spare=self._spare(),
        )

    def _spare(self) -> Spare | None:
        """SGLang profiles no step before it sizes its cache: a large one may find no room."""
        if self.setup.framework != "sglang":
            return None
        memory = self.table.memory
        taken = memory.weights_bytes + memory.other_bytes + memory.communication_bytes
        taken += memory.kv_bytes_per_request * self.setup.max_sequences
        taken += self.kv_tokens * memory.kv_bytes_per_token + memory.activation_bytes_base
        left = self.system.memory_bytes - taken
        return Spare(left, memory.activation_bytes_per_token)

    def _machine(self) -> Machine:
        peak = PEAK.get(self.table.key.weights, "fp8")
        flops = self.system.flops_per_s
        return Machine(
            self.system.bandwidth_bytes_per_s,
            flops.get(peak, max(flops.values())),
            self.system.power_cap_w,
        )


def scheduling_of(setup: Setup, acceptance: float) -> Scheduling:
    """What of the flags decides on a rank's batches."""
    return Scheduling(
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


def _check_cap(power: Power, most_w: float) -> None:
    """Clocks have a lowest: what a GPU draws at that, no cap takes away."""
    least_w = most_w * (power.floor + (1 - power.floor) * power.slowest**power.exponent)
    if power.cap_w is not None and power.cap_w < least_w:
        raise FlagError(
            f"a power cap of {power.cap_w:g} W can't be kept: {least_w:.0f} W is the least"
        )


def _plan(setup: Setup, config: TwinConfig, library: Library | None) -> _Plan:
    _check_cap(config.power, SYSTEMS[config.system].power_cap_w)
    if setup.pipeline > 1:
        raise FlagError(
            "the twin has no measurements of pipeline parallelism: pipeline size 1 is right"
        )
    facts, weights = precision(setup)
    if setup.framework == "vllm" and facts.moe and setup.data > 1:
        setup = replace(setup, lockstep=True)  # it spreads experts over all ranks, EP or not
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
    return _Plan(setup, config, facts, system, table, host, _kv_tokens(setup, table, system))


def precision(setup: Setup) -> tuple[ModelFacts, str]:
    """The architecture and the weights' precision: the checkpoint's own, or what is made of it."""
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
        asked = own  # the flag names what the checkpoint is
    if own not in ("bf16", asked):
        raise FlagError(
            f"{setup.model} holds {own} weights: quantization {setup.weights} is not possible"
        )
    return facts, asked


def _kv_tokens(setup: Setup, table: StepTable, system: SystemFacts) -> int:
    """What a rank's cache holds, by the framework's own rule for its memory fraction."""
    memory, have = table.memory, float(system.memory_bytes)
    fixed = memory.fixed_bytes(setup.step_tokens)
    if memory.weights_bytes + memory.other_bytes > have:
        raise TwinOutOfMemory(memory.weights_bytes, have, "weights")
    share = setup.memory_fraction
    match setup.framework:
        case "vllm":  # weights, activations and all else lie inside the fraction
            room = share * have - fixed
        case "sglang":  # it is for weights and cache; activations get what is left
            room = share * have - memory.weights_bytes - memory.other_bytes
        case "trtllm":  # of what is free once all else is there
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
