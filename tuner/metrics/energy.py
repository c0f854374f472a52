"""Watts and joules of a load level, inside each boundary that is metered, and joules per token. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from serving.telemetry.base import Boundary
from serving.telemetry.validity import Verdict
from tuner.metrics.catalogue.power import BOARDS

NOT_METERED = "no power source was metered"
NOT_ASKED = "idle power was not metered (power.idle_s is 0)"
NO_COMPARISON = "the source does not report both an energy counter and power"


@dataclass(frozen=True, slots=True)
class Idle:
    """Watts per device without load; None: `because` says why."""

    watts: float | None = None
    because: str = NOT_METERED


UNMETERED = Idle()


@dataclass(frozen=True, slots=True)
class Metering:
    """What was metered over one window. A boundary without a verdict had no source.

    `idle`: before the engine was started; `loaded`: with the engine ready and no requests. `state`: the
    metrics of `catalogue.power.STATE`.
    """

    verdicts: Mapping[Boundary, Verdict]
    idle: Idle = UNMETERED
    loaded: Idle = UNMETERED
    state: Mapping[str, float | None] | None = None
    unmetered_because: str = NOT_METERED


Figures = tuple[dict[str, float | None], dict[str, str]]


def energy_figures(
    metrics: Mapping[str, float | None],
    metering: Metering,
    seconds: float,
    devices: int,
    devices_per_node: int,
) -> Figures:
    """The metrics of `catalogue.power.POWER` that apply, and for each that is None the reason.

    `seconds`: length of the level's window. Joules per token are gross, idle power included, unless named net.
    """
    figures, reasons = _boards(metrics, metering, seconds, devices)
    for found, why in (
        _idle(metering),
        _roles(metrics, metering.verdicts.get("gpu"), seconds),
        _host(metering, seconds, devices, devices_per_node),
    ):
        figures |= found
        reasons |= why
    state = metering.state or {}
    figures |= state
    reasons |= {
        name: "the source did not report it" for name, value in state.items() if value is None
    }
    return figures, reasons


def _boards(
    metrics: Mapping[str, float | None], metering: Metering, seconds: float, devices: int
) -> Figures:
    names = list(BOARDS)
    verdict = metering.verdicts.get("gpu")
    if verdict is None or seconds <= 0:
        return dict.fromkeys(names), dict.fromkeys(names, metering.unmetered_because)
    figures: dict[str, float | None] = dict.fromkeys(names)
    reasons: dict[str, str] = {}
    figures["power_counter_error"] = verdict.counter_error
    if verdict.counter_error is None:
        reasons["power_counter_error"] = NO_COMPARISON
    if verdict.total_j is None:
        figures["power_valid"] = 0.0
        because = "; ".join(verdict.reasons)
        missing = [name for name in names if name not in ("power_valid", "power_counter_error")]
        return figures, {**reasons, "power_valid": because, **dict.fromkeys(missing, because)}
    watts = verdict.total_j / seconds
    figures |= {"power_valid": 1.0, "power_w_device": watts / devices}
    for tokens in ("output", "total"):
        rate = metrics.get(f"throughput_{tokens}_tok_s")
        gross, net = f"energy_j_per_{tokens}_tok", f"net_energy_j_per_{tokens}_tok"
        if not rate:
            reasons |= dict.fromkeys((gross, net), "no throughput was measured")
            continue
        figures[gross] = watts / rate
        idle_w = metering.loaded.watts
        if idle_w is None:
            reasons[net] = metering.loaded.because
        elif watts < idle_w * devices:
            reasons[net] = "the boards drew less under load than idle"
        else:
            figures[net] = (watts - idle_w * devices) / rate
    return figures, reasons


def _idle(metering: Metering) -> Figures:
    found = {
        "power_idle_w_device": metering.idle,
        "power_loaded_idle_w_device": metering.loaded,
    }
    reasons = {name: each.because for name, each in found.items() if each.watts is None}
    return {name: each.watts for name, each in found.items()}, reasons


def _roles(metrics: Mapping[str, float | None], verdict: Verdict | None, seconds: float) -> Figures:
    """Joules of each role; only where prefill and decode run on different boards."""
    if verdict is None or not {"prefill", "decode"} <= set(verdict.by_role):
        return {}, {}
    output, total = (metrics.get(f"throughput_{each}_tok_s") for each in ("output", "total"))
    prompt = None if output is None or total is None else total - output
    figures: dict[str, float | None] = {}
    for name, role, rate in (
        ("prefill_energy_j_per_input_tok", "prefill", prompt),
        ("decode_energy_j_per_output_tok", "decode", output),
    ):
        figures[name] = verdict.by_role[role] / seconds / rate if rate else None
    missing = [name for name, value in figures.items() if value is None]
    return figures, dict.fromkeys(missing, "no throughput was measured")


def _host(metering: Metering, seconds: float, devices: int, devices_per_node: int) -> Figures:
    figures: dict[str, float | None] = {}
    reasons: dict[str, str] = {}
    names: dict[Boundary, str] = {"cpu": "cpu_power_w", "dram": "dram_power_w"}
    for boundary, name in names.items():
        verdict = metering.verdicts.get(boundary)
        if verdict is not None:
            joules = verdict.total_j
            figures[name] = None if joules is None else joules / seconds
            if joules is None:
                reasons[name] = "; ".join(verdict.reasons)
    node, name = metering.verdicts.get("node"), "node_power_w_device"
    if node is not None:
        joules, alone = node.total_j, devices == devices_per_node
        figures[name] = joules / seconds / devices_per_node if joules and alone else None
        if joules is None:
            reasons[name] = "; ".join(node.reasons)
        elif not alone:
            reasons[name] = (
                f"the trial has {devices} of the node's {devices_per_node} devices: "
                "their share of its power is not known"
            )
    return figures, reasons
