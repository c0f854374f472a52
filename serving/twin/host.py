"""What the frameworks' own Python costs between steps and before them, beside the kernels.

Fitted to measured runs by `make bench-twin`, always scored on models that were left out of the fit.
"""

from dataclasses import replace

from serving.twin.catalog import ModelFacts
from serving.twin.engine import HostCosts
from serving.twin.setup import Framework, Setup

FITTED: dict[Framework, HostCosts] = {
    "vllm": HostCosts(step_s=0.33e-3, prefill_step_s=14e-3, latency_s=4e-3),
    "sglang": HostCosts(step_s=1.27e-3, prefill_step_s=30e-3, latency_s=78e-3),
    "trtllm": HostCosts(step_s=0.0, prefill_step_s=0.0, latency_s=81e-3),
}
# Launching the kernels of one layer one by one: about ten of them at 5 µs. An assumption, not a fit.
EAGER_LAYER_S = 50e-6


def host_costs(setup: Setup, facts: ModelFacts) -> HostCosts:
    """Of an engine with these flags."""
    eager_s = 0.0 if setup.graphs_upto else EAGER_LAYER_S * facts.layers
    return replace(FITTED[setup.framework], least_step_s=eager_s)
