"""What a study brought, against the default configuration, and when that pays for the study. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tuner.config.study import StudyConfig
from tuner.confirm.results import ConfirmedTier
from tuner.metrics.catalogue import SIGNED
from tuner.results.ledger import Finished
from tuner.results.tiers import Winner, best_per_tier

FLEETS = (8, 64, 512)  # devices
# Of these a share more means as many fewer devices for the same load.
PER_DEVICE = ("_tok_s_device", "_tok_s_mw")


@dataclass(frozen=True, slots=True)
class Gain:
    """What the best of a tier is above the default of its engine.

    `best`, `default`: in the unit of what is sold. `share`: of the devices that serve the tier's load with the
    default, what the best saves: 1 − default / best; with its interval, where it was measured again.
    `unknown`: why there is none.
    """

    tier: str
    best: float | None = None
    default: float | None = None
    share: float | None = None
    interval: tuple[float, float] | None = None
    confirmed: bool = False
    is_default: bool = False
    unknown: str = ""


def payback_h(device_hours: float, share: float, devices: int) -> float | None:
    """Hours until `devices`, of which a share is saved, have saved what the study took; None: never."""
    return device_hours / (share * devices) if share > 0 else None


def counts_devices(metric: str) -> bool:
    """Whether a share of this figure is a share of the devices."""
    return metric.endswith(PER_DEVICE) or metric.startswith("usd_per_m_")


def gains(
    study: StudyConfig, measured: Sequence[Finished], again: Mapping[str, ConfirmedTier]
) -> list[Gain]:
    """Tier by tier. `measured`: the completed trials of the search; `again`: what was measured again."""
    return [_confirmed(again[tier]) if _decided(again.get(tier)) else _searched(study, tier, measured)
            for tier in study.slo.tiers]  # fmt: skip


def _decided(tier: ConfirmedTier | None) -> bool:
    return tier is not None and tier.chosen is not None


def _confirmed(tier: ConfirmedTier) -> Gain:
    chosen = tier.chosen
    assert chosen is not None
    each, name = chosen.standing, tier.tier
    if chosen.contender.is_default:
        return Gain(name, each.mean, each.mean, 0.0, confirmed=True, is_default=True)
    over = each.over_default
    default = next(
        (
            row.standing.mean
            for row in tier.rows
            if row.contender.is_default and row.contender.engine == chosen.contender.engine
        ),
        None,
    )
    if over is None:
        why = f"the default of {chosen.contender.engine} has no figure in this tier"
        why = why if default is None else _loses(chosen.contender.engine, default)
        return Gain(name, each.mean, default, confirmed=True, unknown=why)
    share, low, high = (1 - 1 / (1 + ratio) for ratio in (over.share, over.low, over.high))
    return Gain(name, each.mean, default, share, (low, high), confirmed=True)


def _searched(study: StudyConfig, tier: str, measured: Sequence[Finished]) -> Gain:
    best = best_per_tier(study.slo, study.objective, [e.result for e in measured])[tier]
    if not isinstance(best, Winner):
        return Gain(tier, unknown="nothing keeps its promises")
    entry = measured[best.index]
    if entry.is_default:
        return Gain(tier, best.throughput, best.throughput, 0.0, is_default=True)
    default = next((e for e in measured if e.is_default and e.engine == entry.engine), None)
    if default is None:
        why = f"the default of {entry.engine} was not measured"
        return Gain(tier, best.throughput, unknown=why)
    own = best_per_tier(study.slo, study.objective, [default.result])[tier]
    if not isinstance(own, Winner):
        why = f"the default of {entry.engine} (trial {default.number}) does not keep its promises"
        return Gain(tier, best.throughput, unknown=why)
    worse, better = own.throughput, best.throughput
    if study.objective.sold.direction == "min":
        worse, better = better, worse
    if study.objective.sold.metric in SIGNED and worse <= 0:
        return Gain(tier, best.throughput, own.throughput, unknown=_loses(entry.engine, worse))
    return Gain(tier, best.throughput, own.throughput, 1 - worse / better)


def _loses(engine: str, earns: float) -> str:
    return f"the default of {engine} earns {earns:,.4g}, of which there is no share"
