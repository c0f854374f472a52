"""A load generator for OpenAI-compatible endpoints that measures its own error too."""

from loadgen.control.runner import run
from loadgen.errors import (
    BadTarget,
    EndpointErrors,
    EndpointUnreachable,
    LoadError,
    PromptRefused,
)
from loadgen.results.report import Level, LoadReport, Progress, Window
from loadgen.workload.arrivals import Adaptive, Closed, Constant, Gamma, Poisson, Ramp, Step, Trace
from loadgen.workload.workload import Workload

__all__ = [
    "Adaptive",
    "BadTarget",
    "Closed",
    "Constant",
    "EndpointErrors",
    "EndpointUnreachable",
    "Gamma",
    "Level",
    "LoadError",
    "LoadReport",
    "Poisson",
    "Progress",
    "PromptRefused",
    "Ramp",
    "Step",
    "Trace",
    "Window",
    "Workload",
    "run",
]
