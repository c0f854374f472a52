"""Whether a running engine uses all GPUs that its layout reserves: they are the divisor of figures per GPU."""

from collections.abc import Sequence

from serving.errors import GpusUnused
from serving.process.generation import descends
from serving.telemetry.nvml import handle, nvml_error, processes, session

REMEDY = (
    "Make the layout (topology) and the engine's own parallel sizes agree, or reserve fewer GPUs."
)


def unused(devices: Sequence[str], root: int) -> tuple[str, ...]:
    """The devices without any process, while others have one of `root`'s tree; none where NVML can't tell.

    `devices`: as CUDA_VISIBLE_DEVICES names them.
    """
    idle, ours = list[str](), False
    try:
        with session() as nvml:
            for name in devices:
                pids = {int(each.pid) for each in processes(nvml, handle(nvml, name))}
                if not pids:
                    idle.append(name)
                ours = ours or any(descends(pid, root) for pid in pids)
    except nvml_error():
        return ()
    return tuple(idle) if ours else ()


def check_used(devices: Sequence[str], root: int) -> None:
    """Raises GpusUnused."""
    if idle := unused(devices, root):
        are = "runs" if len(idle) == 1 else "run"
        raise GpusUnused(
            f"{len(idle)} of {len(devices)} reserved GPUs {are} no process of the engine: {', '.join(idle)}",
            phase="start",
            remedy=REMEDY,
        )
