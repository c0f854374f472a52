"""Host overhead of each framework: the time its CPU code adds to a step's kernels.

Fitted to measured runs by `make bench-twin`, and scored on models left out of the fit.
"""

from dataclasses import replace

from serving.twin.engine.engine import HostCosts
from serving.twin.setup import Framework, Setup
from serving.twin.tables.catalog import ModelFacts

# 26 November 2026: least absolute error of TPOT and TTFT over 385 InferenceX runs on B300, B200 and H200
# (docs/twin.md: errors for models that were not fitted).
FITTED: dict[Framework, HostCosts] = {
    "vllm": HostCosts(step_s=0.35e-3, prefill_step_s=14e-3, latency_s=4.0e-3),
    "sglang": HostCosts(step_s=1.20e-3, prefill_step_s=50e-3, latency_s=20e-3),
    "trtllm": HostCosts(step_s=0.0, prefill_step_s=0.0, latency_s=8.6e-3),
}
# Without CUDA graphs, kernel launches of one layer: about ten at 5 µs. An assumption, not a fit.
EAGER_LAYER_S = 50e-6


def host_costs(setup: Setup, facts: ModelFacts) -> HostCosts:
    """The host overhead of an engine with these flags."""
    eager_s = 0.0 if setup.graphs_upto else EAGER_LAYER_S * facts.layers
    return replace(FITTED[setup.framework], least_step_s=eager_s)
