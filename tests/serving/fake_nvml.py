"""The state of the fake libnvidia-ml.so.1: shared with it through a file, so that a test may change it."""

import ctypes as c
import mmap
import subprocess
import time
from math import cos, pi
from pathlib import Path

SOURCE = Path(__file__).with_name("fake_nvml.c")
NAME = "libnvidia-ml.so.1"
NOT_SUPPORTED, NO_PERMISSION, UNKNOWN, LOST, NOT_LOADED = 3, 4, 999, 15, 9


class Draw(c.Structure):
    _fields_ = [(n, c.c_double) for n in ("since_s", "base_mj", "mean_mw", "swing_mw", "period_s")]


class Gpu(c.Structure):
    _fields_ = [
        ("draws", Draw * 2),
        ("active", c.c_int),
        *(
            (n, c.c_int)
            for n in ("lost_rc", "energy_rc", "power_rc", "instant_rc", "set_rc", "mig")
        ),
        *((n, c.c_int) for n in ("limit_mw", "least_mw", "most_mw", "locked_mhz", "sm_mhz")),
        *((n, c.c_int) for n in ("memory_mhz", "temperature_c", "update_ms")),
        ("pids", c.c_int * 4),
        ("throttle", c.c_longlong),
        ("memory_bytes", c.c_longlong),
    ]

    def draw(
        self,
        mean_w: float,
        swing_w: float = 0.0,
        period_s: float = 1.0,
        base_j: float | None = None,
    ) -> None:
        """From now on; the counter goes on from where it is, or from `base_j`."""
        now_s, old = time.monotonic(), self.draws[self.active]
        base_mj = energy_mj(old, now_s) if base_j is None else base_j * 1000
        self.draws[1 - self.active] = Draw(now_s, base_mj, mean_w * 1000, swing_w * 1000, period_s)
        self.active = 1 - self.active

    def joules(self, begin_ns: int, end_ns: int) -> float:
        """What it drew between two moments, exactly, while its draw did not change."""
        draw = self.draws[self.active]
        return (energy_mj(draw, end_ns / 1e9) - energy_mj(draw, begin_ns / 1e9)) / 1000


def energy_mj(draw: Draw, at_s: float) -> float:
    if not draw.period_s:
        return 0.0
    turn = 2 * pi / draw.period_s
    swung = draw.swing_mw / turn * (cos(turn * draw.since_s) - cos(turn * at_s))
    return float(draw.base_mj + draw.mean_mw * (at_s - draw.since_s) + swung)


class State(c.Structure):
    _fields_ = [("init_rc", c.c_int), ("count", c.c_int), ("gpus", Gpu * 8)]


def compiled(folder: Path, *flags: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    library = folder / NAME
    # No soname: once loaded under pynvml, the loader would take it for the machine's own for ever after.
    command = ["gcc", "-shared", "-fPIC", "-O1", *flags]
    subprocess.run([*command, "-o", str(library), str(SOURCE), "-lm"], check=True)
    return library


def shared_state(path: Path, count: int = 2) -> State:
    """So many idle boards of 700 W, their counters at 1 MJ, 2 MJ, …"""
    path.write_bytes(bytes(c.sizeof(State)))
    with path.open("r+b") as file:
        state = State.from_buffer(
            mmap.mmap(file.fileno(), 0)
        )  # ctypes points into it: it stays open
    state.count = count
    for index in range(count):
        gpu = state.gpus[index]
        gpu.limit_mw = gpu.most_mw = 700_000
        gpu.least_mw, gpu.sm_mhz, gpu.memory_mhz = 200_000, 1980, 2619
        gpu.temperature_c, gpu.update_ms, gpu.memory_bytes = 41, 20, 10 << 30
        gpu.draw(80.0, base_j=1e6 * (index + 1))
    return state
