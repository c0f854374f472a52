"""NVIDIA's management library; the only file that imports pynvml. Its absence is an answer."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Gpu:
    index: int
    uuid: str
    name: str
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Driver:
    """`absent_because`: why there are no GPUs to be seen; None if NVML answers."""

    gpus: tuple[Gpu, ...] = ()
    version: str | None = None
    absent_because: str | None = None


def driver() -> Driver:
    """What NVML sees on this node."""
    import pynvml

    try:
        with session() as nvml:
            count = nvml.nvmlDeviceGetCount()
            gpus = tuple(_gpu(nvml, index) for index in range(count))
            return Driver(gpus, nvml.nvmlSystemGetDriverVersion())
    except pynvml.NVMLError as error:
        return Driver(absent_because=str(error))


def device_count() -> int:
    return len(driver().gpus)


@contextmanager
def session() -> Iterator[Any]:
    """The initialised library. Raises `NVMLError` of what it yields, without a driver."""
    import pynvml

    pynvml.nvmlInit()
    try:
        yield pynvml
    finally:
        pynvml.nvmlShutdown()


def nvml_error() -> type[Exception]:
    """What the library raises."""
    import pynvml

    error: type[Exception] = pynvml.NVMLError
    return error


def handle(nvml: Any, name: str) -> Any:
    """Of a device as CUDA_VISIBLE_DEVICES names it: an index, `GPU-…` or `MIG-…`."""
    if name.isdigit():
        return nvml.nvmlDeviceGetHandleByIndex(int(name))
    return nvml.nvmlDeviceGetHandleByUUID(name)


def _gpu(nvml: Any, index: int) -> Gpu:
    device = nvml.nvmlDeviceGetHandleByIndex(index)
    memory = nvml.nvmlDeviceGetMemoryInfo(device)
    return Gpu(
        index, nvml.nvmlDeviceGetUUID(device), nvml.nvmlDeviceGetName(device), int(memory.total)
    )
