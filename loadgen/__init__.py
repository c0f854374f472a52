"""A load generator for OpenAI-compatible endpoints that can say how far its own figures are off."""

from loadgen.errors import (
    BadTarget,
    EndpointErrors,
    EndpointUnreachable,
    LoadError,
    PromptRefused,
)
from loadgen.report import Level, LoadReport, Progress, Window
from loadgen.runner import run
from loadgen.workload import Closed, Poisson, Workload

__all__ = [
    "BadTarget",
    "Closed",
    "EndpointErrors",
    "EndpointUnreachable",
    "Level",
    "LoadError",
    "LoadReport",
    "Poisson",
    "Progress",
    "PromptRefused",
    "Window",
    "Workload",
    "run",
]
