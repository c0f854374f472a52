"""A load generator for OpenAI-compatible endpoints that can say how far its own figures are off."""

from loadgen.arrivals import Adaptive, Closed, Constant, Gamma, Poisson, Ramp, Step, Trace
from loadgen.errors import (
    BadTarget,
    EndpointErrors,
    EndpointUnreachable,
    LoadError,
    PromptRefused,
)
from loadgen.report import Level, LoadReport, Progress, Window
from loadgen.runner import run
from loadgen.workload import Workload

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
