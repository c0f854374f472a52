"""One trial's configuration: everything that decides what is measured."""

import hashlib
import json
from functools import cached_property

from loadgen.workload.workload import Workload
from serving.engines import Engine
from serving.telemetry.sources import PowerConfig
from serving.topology import Model, Strict, Topology
from serving.twin.config import TwinConfig
from tuner.config.groups.economics import Economics
from tuner.config.groups.hardware import Hardware


class TrialConfig(Strict):
    """Everything that decides what is measured, and nothing that does not (no path, no port)."""

    engine: Engine
    model: Model
    topology: Topology
    hardware: Hardware
    workload: Workload
    power: PowerConfig = PowerConfig()  # how it meters is no part of the fingerprint
    economics: Economics = Economics()  # judges what was measured: no part of the fingerprint

    @property
    def devices(self) -> int:
        """What figures per device divide by: all that the trial takes."""
        twin = self.hardware.twin
        if twin is None or twin.pools is None:
            return self.topology.devices
        return twin.pools.devices(self.topology)

    @property
    def twin(self) -> TwinConfig | None:
        """The emulation under the trial's power limit; None on real hardware."""
        twin, limit_w = self.hardware.twin, self.power.limit_w
        if twin is None or limit_w is None:
            return twin
        return twin.model_copy(update={"power": twin.power.model_copy(update={"cap_w": limit_w})})

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits of the SHA-256 of the canonical JSON."""
        data = self.model_dump(mode="json", exclude={"economics", "power"})
        limits = self.power.model_dump(include={"limit_w", "sm_clock_mhz"}, exclude_none=True)
        if limits:
            data["power"] = limits
        if self.hardware.twin is None:
            del data["hardware"]["twin"]  # as it was before there were twins
        text = json.dumps(data, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]
