"""The columns in which the report shows an operating point, and what their figures rest on."""

from tuner.config.study import StudyConfig
from tuner.metrics.derive import tokens_per_s_per_mw, usd_per_million_tokens
from tuner.results.ledger import Finished
from tuner.trial.result import OperatingPoint

MODELLED = "modelled"
LEFT = ("load", "engine", "on the front")
ALWAYS = {
    "throughput_output_tok_s_device": "tok/s\n/{device}",
    "interactivity_tok_s_user": "tok/s\n/user",
    "ttft_p50_ms": "TTFT\np50",
    "ttft_p99_ms": "TTFT\np99",
    "tpot_p50_ms": "TPOT\np50",
}
# Where a tier is judged by one of these, it stands in the place of tokens per megawatt; and what it counts.
JUDGED_BY = {
    "energy_j_per_output_tok": ("J\n/tok", "J: {energy} of GPU boards, gross, per output token"),
    "energy_j_per_total_tok": ("J\n/tok", "J: {energy} of GPU boards, gross, per token in or out"),
    "net_energy_j_per_output_tok": (
        "net J\n/tok",
        "net J: {energy} of GPU boards, less loaded and idle, per output token",
    ),
    "margin_usd_device_hour": ("margin\n$/h", "margin: per {device}-hour"),
    "facility_margin_usd_mw_year": ("margin\n$/MW-y", "margin: a year of a MW of the facility"),
    "provisioned_margin_usd_mw_year": ("margin\n$/MW-y", "margin: a year of a provisioned MW"),
    "provisioned_revenue_usd_mw_year": ("earned\n$/MW-y", "earned: a year of a provisioned MW"),
}


def headers(study: StudyConfig) -> list[str]:
    hardware = study.hardware
    found = ["trial", "engine", "load"]
    found += [header.format(device=hardware.device) for header in ALWAYS.values()]
    found += ["$\n/Mtok"] if hardware.usd_per_device_hour else []
    if study.objective.throughput in JUDGED_BY:
        return [*found, JUDGED_BY[study.objective.throughput][0]]
    return found + (["tok/s\n/MW"] if hardware.kw_per_device else [])


def cells(entry: Finished, point: OperatingPoint, study: StudyConfig) -> list[str]:
    hardware, judged_by = study.hardware, study.objective.throughput
    rate = point.metrics.get("throughput_output_tok_s_device")
    found = [trial_name(entry), entry.engine, point.load]
    found += [number(point.metrics.get(metric)) for metric in ALWAYS]
    if hardware.usd_per_device_hour:
        found.append(number(None if rate is None else usd_per_million_tokens(rate, hardware)))
    if judged_by in JUDGED_BY:
        found.append(number(point.metrics.get(judged_by)))
    elif hardware.kw_per_device:
        found.append(number(None if rate is None else tokens_per_s_per_mw(rate, hardware)))
    return found


def footnotes(study: StudyConfig, *, modelled: bool) -> list[str]:
    """The constants with their sources; which tokens, and whose joules or dollars."""
    hardware = study.hardware
    constants = {
        f"$ per {hardware.device}-hour": hardware.usd_per_device_hour,
        f"kW per {hardware.device}, provisioned": hardware.kw_per_device,
    }
    found = [
        f"{constant.value:g} {name}: {constant.source}, {constant.date}"
        for name, constant in constants.items()
        if constant is not None
    ]
    energy = "modelled energy" if modelled else "metered energy"
    _, what = JUDGED_BY.get(study.objective.throughput, ("", ""))
    told = what.format(energy=energy, device=hardware.device)
    return [
        *found,
        f"tok/s and $ count output tokens; TTFT and TPOT in ms{'; ' if told else ''}{told}",
    ]


def trial_name(entry: Finished) -> str:
    return f"{entry.number} {MODELLED}" if entry.modelled else str(entry.number)


def number(value: float | None) -> str:
    if value is None:
        return "–"
    for size, suffix in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if suffix == 'k' else size):.3g}{suffix}"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
