"""What has to be known of a default before a gain over it means anything. Pure."""

from collections import Counter
from collections.abc import Iterator
from math import log, log2

from tuner.config.groups.objective import Slo
from tuner.config.trial import TrialConfig
from tuner.metrics.notation import counted
from tuner.results.tiers import in_tier
from tuner.trial.result import Completed, OperatingPoint, TrialResult

THROUGHPUT = "throughput_output_tok_s_device"
STILL_GROWS = (
    0.1  # throughput that a doubling of the load adds, below which a replica counts as loaded
)
WIDE = 2.0  # ratio of two loads, above which what lies between is unknown
SWITCHES = {"enable_prefix_caching": False, "disable_radix_cache": True}


def default_cautions(slo: Slo, tier: str, default: TrialResult, best: TrialResult) -> Iterator[str]:
    """One clause each; none for a default that a person might run."""
    config, device = default.config, default.config.hardware.device
    if _without_prefix_cache(config):
        yield "the prefix cache of the default is off"
    if config.model.source != best.config.model.source:
        yield f"the best serves another checkpoint ({best.config.model.source}), whose answers differ"
    if config.devices != best.config.devices:
        yield (
            f"a replica of the default has {counted(config.devices, device)}, of the best "
            f"{best.config.devices}: "
            "the gain includes the layout"
        )
    if not isinstance(default, Completed):
        return
    invalid = [reason for point in default.points for reason in point.invalid_because[:1]]
    if invalid:
        (why, _), *_ = Counter(invalid).most_common(1)
        levels, verb = counted(len(default.points), "level"), "is" if len(invalid) == 1 else "are"
        yield f"{len(invalid)} of {levels} of the default {verb} not valid: {why}"
    if gap := _gap(slo, tier, default):
        yield f"the default meets the tier at {gap[0]} and not at {gap[1]}, and nothing between was run"
    if top := _unloaded(slo, tier, default):
        yield (
            f"at its highest load, {top}, the default still meets the tier with throughput rising: "
            "it may do more"
        )


def _without_prefix_cache(config: TrialConfig) -> bool:
    return any(getattr(config.engine, name, None) is value for name, value in SWITCHES.items())


def _gap(slo: Slo, tier: str, default: Completed) -> tuple[str, str] | None:
    """The loads on both sides of the tier's limit, where they are far apart."""
    points = [point for point in default.points if point.valid and point.load_value]
    inside = [in_tier(slo.tiers[tier], point) for point in points]
    if not any(inside) or all(inside[-1:]):
        return None
    last = max(place for place, meets in enumerate(inside) if meets)
    below, above = points[last], points[last + 1]
    wide = (above.load_value or 0.0) > WIDE * (below.load_value or 0.0)
    return (below.load, above.load) if wide else None


def _unloaded(slo: Slo, tier: str, default: Completed) -> str:
    """The highest load of a default that was not loaded to its limit in the tier; empty if it was."""
    points = [point for point in default.points if point.valid and point.load_value]
    if len(points) < 2:
        return ""
    below, top = points[-2:]
    return top.load if in_tier(slo.tiers[tier], top) and _per_doubling(below, top) else ""


def _per_doubling(below: OperatingPoint, top: OperatingPoint) -> bool:
    """Whether throughput still rises by STILL_GROWS with a doubling of the load."""
    before, after = below.metrics.get(THROUGHPUT), top.metrics.get(THROUGHPUT)
    ratio = (top.load_value or 1.0) / (below.load_value or 1.0)
    if not before or not after or ratio <= 1:
        return False
    return log(after / before) >= log(ratio) * log2(1 + STILL_GROWS)
