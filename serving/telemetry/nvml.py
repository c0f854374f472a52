"""NVIDIA's management library (NVML). The only file that imports pynvml."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU of this node."""

    index: int
    uuid: str
    name: str
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Driver:
    """The GPUs and the driver's version. `absent_because`: why NVML does not answer; None if it does."""

    gpus: tuple[Gpu, ...] = ()
    version: str | None = None
    absent_because: str | None = None


def driver() -> Driver:
    """The GPUs of this node; none, with the reason, where there is no driver."""
    import pynvml

    try:
        with session() as nvml:
            count = nvml.nvmlDeviceGetCount()
            gpus = tuple(_gpu(nvml, index) for index in range(count))
            return Driver(gpus, nvml.nvmlSystemGetDriverVersion())
    except pynvml.NVMLError as error:
        return Driver(absent_because=str(error))


def device_count() -> int:
    """How many GPUs this node has."""
    return len(driver().gpus)


@contextmanager
def session() -> Iterator[Any]:
    """The initialised library. Raises `nvml_error()` where there is no driver."""
    import pynvml

    pynvml.nvmlInit()
    try:
        yield pynvml
    finally:
        pynvml.nvmlShutdown()


def nvml_error() -> type[Exception]:
    """The class of the library's errors."""
    import pynvml

    error: type[Exception] = pynvml.NVMLError
    return error


def handle(nvml: Any, name: str) -> Any:
    """The handle of a device, named as in CUDA_VISIBLE_DEVICES: an index, `GPU-…` or `MIG-…`."""
    if name.isdigit():
        return nvml.nvmlDeviceGetHandleByIndex(int(name))
    return nvml.nvmlDeviceGetHandleByUUID(name)


def processes(nvml: Any, device: Any) -> Any:
    """The compute processes on a device; older drivers know the function only by its older version."""
    try:
        return nvml.nvmlDeviceGetComputeRunningProcesses_v3(device)
    except nvml.NVMLError as error:
        if error.value != nvml.NVML_ERROR_FUNCTION_NOT_FOUND:
            raise
        return nvml.nvmlDeviceGetComputeRunningProcesses_v2(device)


def _gpu(nvml: Any, index: int) -> Gpu:
    device = nvml.nvmlDeviceGetHandleByIndex(index)
    memory = nvml.nvmlDeviceGetMemoryInfo(device)
    return Gpu(
        index, nvml.nvmlDeviceGetUUID(device), nvml.nvmlDeviceGetName(device), int(memory.total)
    )
