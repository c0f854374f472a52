"""Every metric that an operating point can have, once: name, unit, direction, label, meaning. Pure."""

from collections.abc import Mapping

from tuner.metrics.catalogue.earnings import EARNINGS
from tuner.metrics.catalogue.efficiency import EFFICIENCY
from tuner.metrics.catalogue.engine import ENGINE
from tuner.metrics.catalogue.load import LOAD, PER_DEVICE
from tuner.metrics.catalogue.metric import Metric
from tuner.metrics.catalogue.power import POWER

# As the reference shows them: heading → its metrics.
SECTIONS: Mapping[str, Mapping[str, Metric]] = {
    "Load": LOAD,
    "Per device": PER_DEVICE,
    "Engine": ENGINE,
    "Power and energy": POWER,
    "Efficiency by boundary": EFFICIENCY,
    "Cost and earnings": EARNINGS,
}
CATALOGUE: Mapping[str, Metric] = {
    name: metric for section in SECTIONS.values() for name, metric in section.items()
}
DERIVED = {**PER_DEVICE, **EFFICIENCY, **EARNINGS}  # calculated from measured ones and constants
SIGNED = frozenset(name for name, metric in CATALOGUE.items() if metric.signed)


def axis_label(name: str, device: str) -> str:
    """The label of a metric; `device`: GPU or host. A name that is not in the catalogue is its own label."""
    metric = CATALOGUE.get(name)
    return name if metric is None else metric.label.format(device=device)
