"""The configuration of one trial. Pure."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any, NamedTuple

from pydantic import Field

from loadgen.workload.request_overrides import RequestOverrides
from loadgen.workload.workload import Workload
from serving.engines import Engine, External
from serving.engines.trtllm import CudaGraphs, KvCache
from serving.telemetry.sources.config import PowerConfig
from serving.topology import Model, Role, Strict, Topology
from serving.twin.config import TwinConfig
from tuner.config.groups.economics import Economics
from tuner.config.groups.hardware import Hardware
from tuner.config.groups.quality import QualityPrompts

UNMEASURED = ("economics", "power", "quality")  # groups that are not in the fingerprint
LIMITS = ("limit_w", "sm_clock_mhz")  # of the power group, what is in the fingerprint
# Keys newer than the first fingerprints: with these values they stay out of it, so that older studies resume.
ADDED: Mapping[tuple[str, str], Any] = {
    ("hardware", "twin"): None,
    ("engine", "env_passthrough"): [],
    ("engine", "hang_after_s"): 60.0,
    ("engine", "inside"): None,
    ("engine", "inside_version"): None,
    ("engine", "api_key_env"): None,
    ("engine", "version"): None,
    ("engine", "container"): None,
    ("engine", "flags"): {},
    ("engine", "speculation"): None,
    ("engine", "compilation"): None,
    ("engine", "kv_transfer"): None,
    ("engine", "cuda_graph_config"): CudaGraphs().model_dump(mode="json"),
    ("engine", "kv_cache_config"): KvCache().model_dump(mode="json"),
    ("engine", "enable_attention_dp"): None,
    ("engine", "llm_options"): {},
    ("engine", "prefill_knobs"): {},
    ("topology", "replicas"): 1,
    ("topology", "prefill"): None,
    ("topology", "router"): None,
    ("topology", "router_args"): [],
    ("workload", "prompt_salt"): None,
    ("workload", "request"): RequestOverrides().model_dump(mode="json"),
}
# In no fingerprint: it decides which trials are tried, not what they measure.
OMITTED = (("hardware", "gib_per_device"),)


class Pool(NamedTuple):
    """Equal engines: their role, the layout of each, and how many they are."""

    role: Role
    layout: Topology
    engines: int


class TrialConfig(Strict):
    """Everything that decides what is measured, and nothing else (no path, no port)."""

    engine: Engine = Field(description="the engine and its settings")
    model: Model = Field(description="the model to serve")
    topology: Topology = Field(description="how the model is laid out over devices")
    hardware: Hardware = Field(description="the nodes, real or emulated, and their constants")
    workload: Workload = Field(description="the load")
    # Of these two only LIMITS are in the fingerprint: metering and prices change no trial.
    power: PowerConfig = Field(
        default=PowerConfig(), description="power limits of the GPUs, and how energy is metered"
    )
    economics: Economics = Field(
        default=Economics(), description="costs of capacity, prices of tokens"
    )
    # In no fingerprint: what is answered after the load changes nothing that is measured under it.
    quality: QualityPrompts | None = Field(
        default=None, description="what is answered after the load; unset: nothing"
    )

    @property
    def devices(self) -> int:
        """All devices of the trial: the divisor of metrics per device."""
        twin = self.hardware.twin
        if twin is None or twin.pools is None:
            return self.topology.devices
        return twin.pools.devices(self.topology)

    @property
    def pools(self) -> tuple[Pool, ...]:
        """Its engines by role, prefill first; one pool where every engine does both."""
        twin = self.hardware.twin
        if twin is not None and twin.pools is not None:
            prefill = twin.pools.prefill_topology or self.topology
            return (
                Pool("prefill", prefill, twin.pools.prefill),
                Pool("decode", self.topology, twin.pools.decode),
            )
        members = self.topology.members
        counts = Counter(each.role for each in members)
        layouts = {each.role: each.topology for each in members}
        return tuple(Pool(role, layout, counts[role]) for role, layout in layouts.items())

    @property
    def reserves(self) -> Topology:
        """What Ray reserves: its devices; for a server that runs already one core, for the load."""
        return reserved(self.topology, [self.engine])

    @property
    def twin(self) -> TwinConfig | None:
        """The emulation, with the trial's power limit in it; None on real hardware."""
        twin, limit_w = self.hardware.twin, self.power.limit_w
        if twin is None or limit_w is None:
            return twin
        return twin.model_copy(update={"power": twin.power.model_copy(update={"cap_w": limit_w})})

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits of the SHA-256 of the canonical JSON."""
        return fingerprint_of(self.model_dump(mode="json"))


def reserved(topology: Topology, engines: Iterable[Engine]) -> Topology:
    """What a trial of one of these engines reserves, laid out so."""
    elsewhere = all(isinstance(engine, External) for engine in engines)
    return Topology(cpus=1) if elsewhere else topology


def fingerprint_of(data: Mapping[str, Any]) -> str:
    """The fingerprint of a trial's configuration as JSON, with the keys of the version that wrote it."""
    kept = {group: value for group, value in data.items() if group not in UNMEASURED}
    power = data.get("power") or {}
    limits = {name: power[name] for name in LIMITS if power.get(name) is not None}
    if limits:
        kept["power"] = limits
    for group, name in (*ADDED, *OMITTED):
        inner = kept.get(group)
        if not isinstance(inner, dict) or name not in inner:
            continue
        if (group, name) in OMITTED or inner[name] == ADDED[group, name]:
            kept[group] = {key: value for key, value in inner.items() if key != name}
    text = json.dumps(kept, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
