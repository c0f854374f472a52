"""What an emulated engine counts itself, and tells over HTTP: joules of its devices, steps that came late."""

import time

from serving import probe
from serving.telemetry.meter import Read, Sample

STEPS, LATE = "steps", "late"


def energy_reader(base_url: str) -> Read:
    """Joules by device. The answer carries the moment of this machine's monotonic clock it holds for."""

    def read() -> Sample | None:
        told = probe.get_json(f"{base_url}/twin/power")
        if not isinstance(told, dict):
            return None
        joules = {str(each["uuid"]): float(each["energy_j"]) for each in told["devices"]}
        return Sample(round(told["t_s"] * 1e9), joules)

    return read


def lateness_reader(base_url: str) -> Read:
    """`STEPS` that it has given out, and of them those `LATE`: by a tenth of their length, and 1 ms."""

    def read() -> Sample | None:
        told = probe.get_json(f"{base_url}/twin/lag")
        if not isinstance(told, dict):
            return None
        steps = float(told["steps"])
        return Sample(time.monotonic_ns(), {STEPS: steps, LATE: steps * float(told["late_share"])})

    return read
