"""The hardware and software that a trial was measured on, kept with every trial."""

import os
import platform
import socket
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from serving.telemetry.nvml import driver


def provenance() -> dict[str, Any]:
    """Host, processor, memory, kernel, GPUs and driver, and Wattfront's version."""
    nvidia = driver()
    return {
        "host": socket.gethostname(),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "gpus": [gpu.name for gpu in nvidia.gpus],
        "driver": nvidia.version,
        "wattfront": _version(),
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def _version() -> str:
    try:
        return version("wattfront")
    except PackageNotFoundError:
        return "not installed"
