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
        with _session() as nvml:
            count = nvml.nvmlDeviceGetCount()
            gpus = tuple(_gpu(nvml, index) for index in range(count))
            return Driver(gpus, nvml.nvmlSystemGetDriverVersion())
    except pynvml.NVMLError as error:
        return Driver(absent_because=str(error))


def device_count() -> int:
    return len(driver().gpus)


@contextmanager
def _session() -> Iterator[Any]:
    import pynvml

    pynvml.nvmlInit()
    try:
        yield pynvml
    finally:
        pynvml.nvmlShutdown()


def _gpu(nvml: Any, index: int) -> Gpu:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    return Gpu(
        index, nvml.nvmlDeviceGetUUID(handle), nvml.nvmlDeviceGetName(handle), int(memory.total)
    )
