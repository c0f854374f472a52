"""Power of NVIDIA GPUs: energy counters, sampled watts, clocks, and the processes on them."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving.process.generation import descends
from serving.telemetry.base import Device, PowerKind, Reading, Role, SourceError
from serving.telemetry.nvml import handle, nvml_error, processes, session

EVERY_S, GAP_S = 0.1, 2.0
# Values that change slowly, or take longer to query, are read every so many readings.
SLOW_READINGS = 10
MILLI = 1e-3


@dataclass(frozen=True, slots=True)
class _Board:
    device: Device
    handle: Any
    mig: bool


class NvmlSource:
    """Use `opened`. `roots`: pids whose descendants are the trial's own processes."""

    kind = "nvml"
    every_s, gap_s = EVERY_S, GAP_S

    def __init__(self, nvml: Any, boards: Sequence[_Board], roots: Sequence[int]) -> None:
        self._nvml, self._boards, self._roots = nvml, boards, roots
        self._unsupported: dict[tuple[str, str], str] = {}
        self._readings = 0
        self.devices = tuple(board.device for board in boards)
        instant = all(self._instant_works(board) for board in boards if not board.mig)
        self.power_kind: PowerKind = "instant" if instant else "average"

    def read(self) -> list[Reading]:
        """One reading per board; what it does not report is None, with a fault if it is energy or power."""
        slow = self._readings % SLOW_READINGS == 0
        self._readings += 1
        return [self._reading(board, slow=slow) for board in self._boards]

    def _reading(self, board: _Board, *, slow: bool) -> Reading:
        nvml, faults = self._nvml, list[str]()
        name, device = board.device.name, board.handle

        def query(what: str, call: Callable[[], Any], scale: float = 1.0) -> float | None:
            value = self._query(name, what, call, faults)
            return None if value is None else float(value) * scale

        energy_j = query(
            "energy counter", lambda: nvml.nvmlDeviceGetTotalEnergyConsumption(device), MILLI
        )
        at_ns = time.monotonic_ns()
        power_w = query("power", lambda: self._power_mw(device), MILLI)
        fault = "; ".join(faults)
        clock, throttle = nvml.NVML_CLOCK_SM, self._throttle
        sm_clock_mhz = query("clock", lambda: nvml.nvmlDeviceGetClockInfo(device, clock))
        bits = query("clocks event reasons", lambda: throttle(device))
        if board.mig:
            fault = (
                "a MIG slice has no power reading of its own: the board's includes its neighbours"
            )
        if not slow:
            return Reading(
                at_ns,
                name,
                energy_j,
                power_w,
                sm_clock_mhz=sm_clock_mhz,
                throttle=bits,
                fault=fault,
            )
        memory = nvml.NVML_CLOCK_MEM
        return Reading(
            at_ns,
            name,
            energy_j,
            power_w,
            limit_w=query("limit", lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(device), MILLI),
            sm_clock_mhz=sm_clock_mhz,
            memory_clock_mhz=query(
                "memory clock", lambda: nvml.nvmlDeviceGetClockInfo(device, memory)
            ),
            temperature_c=query(
                "temperature",
                lambda: nvml.nvmlDeviceGetTemperature(device, nvml.NVML_TEMPERATURE_GPU),
            ),
            memory_bytes=query("memory", lambda: nvml.nvmlDeviceGetMemoryInfo(device).used),
            throttle=bits,
            foreign=self._foreign(name, device),
            fault=fault,
        )

    def _query(self, name: str, what: str, call: Callable[[], Any], faults: list[str]) -> Any:
        """None and a fault if the call fails; what the board does not support is not called again."""
        nvml = self._nvml
        if why := self._unsupported.get((name, what)):
            faults.append(why)
            return None
        try:
            return call()
        except nvml.NVMLError as error:
            why = f"{what}: {error}"
            faults.append(why)
            unsupported = (nvml.NVML_ERROR_NOT_SUPPORTED, nvml.NVML_ERROR_FUNCTION_NOT_FOUND)
            if error.value in unsupported:
                self._unsupported[name, what] = why
            return None

    def _power_mw(self, device: Any) -> float:
        nvml = self._nvml
        if self.power_kind == "average":
            return float(nvml.nvmlDeviceGetPowerUsage(device))
        [field] = nvml.nvmlDeviceGetFieldValues(device, [nvml.NVML_FI_DEV_POWER_INSTANT])
        if field.nvmlReturn:
            raise nvml.NVMLError(field.nvmlReturn)
        return float(field.value.uiVal)

    def _instant_works(self, board: _Board) -> bool:
        self.power_kind = "instant"
        try:
            self._power_mw(board.handle)
        except nvml_error():
            return False
        return True

    def _throttle(self, device: Any) -> int:
        """NVML's bits; drivers before 535 know the function only by its old name."""
        nvml = self._nvml
        try:
            return int(nvml.nvmlDeviceGetCurrentClocksEventReasons(device))
        except nvml.NVMLError as error:
            if error.value != nvml.NVML_ERROR_FUNCTION_NOT_FOUND:
                raise
            return int(nvml.nvmlDeviceGetCurrentClocksThrottleReasons(device))

    def _foreign(self, name: str, device: Any) -> str | None:
        found = self._query(name, "processes", lambda: processes(self._nvml, device), [])
        if found is None:
            return None
        pids = sorted({int(each.pid) for each in found})
        foreign = [pid for pid in pids if self._is_foreign(pid)]
        return ", ".join(f"{pid} {_command(pid)}".rstrip() for pid in foreign)

    def _is_foreign(self, pid: int) -> bool:
        """Whether it is certain to be none of the trial's."""
        return all(descends(pid, root) is False for root in self._roots or (None,))


@contextmanager
def opened(
    devices: Sequence[str], roles: Sequence[Role] = (), roots: Sequence[int] = ()
) -> Iterator[NvmlSource]:
    """`devices`: as CUDA_VISIBLE_DEVICES names them; `roles`: one for each, or none. Raises SourceError."""
    with ExitStack() as stack:
        try:
            nvml = stack.enter_context(session())
            found = [handle(nvml, name) for name in devices]
            names = [nvml.nvmlDeviceGetUUID(each) for each in found]
        except nvml_error() as error:
            raise SourceError(
                f"NVML does not answer for GPU {', '.join(devices)}: {error}"
            ) from error
        of_each: Sequence[Role] = roles or [""] * len(names)
        boards = [
            _Board(Device(name, "gpu", role), each, name.startswith("MIG-"))
            for name, each, role in zip(names, found, of_each, strict=True)
        ]
        yield NvmlSource(nvml, boards, roots)


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""
