"""The columns in which the report shows an operating point, and what their figures rest on. Pure."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tuner.config.study import StudyConfig
from tuner.metrics.derive import tokens_per_s_per_mw, usd_per_million_tokens
from tuner.metrics.notation import counted, number, stated
from tuner.report.console import Column, words
from tuner.results.ledger import Finished
from tuner.trial.result import OperatingPoint

MODELLED = "modelled"
ASSUMES, KNOWN_WRONG = "assumes", "known_wrong"  # in the provenance of modelled figures
LOAD = {
    "throughput_output_tok_s_device": "tok/s\n/{device}",
    "interactivity_tok_s_user": "tok/s\n/user",
    "ttft_p50_ms": "TTFT\np50",
    "ttft_p99_ms": "TTFT\np99",
    "tpot_p50_ms": "TPOT\np50",
}
# Target metric → its column, which takes the place of tokens per megawatt, and what it counts.
TARGETS = {
    "energy_j_per_output_tok": ("J\n/tok", "J: {energy} of GPU boards, gross, per output token"),
    "energy_j_per_total_tok": ("J\n/tok", "J: {energy} of GPU boards, gross, per token in or out"),
    "net_energy_j_per_output_tok": (
        "net J\n/tok",
        "net J: {energy} of GPU boards above loaded idle, per output token",
    ),
    "margin_usd_device_hour": ("margin\n$/h", "margin: per {device}-hour"),
    "facility_margin_usd_mw_year": ("margin\n$/MW-y", "margin: a year of a MW of the facility"),
    "provisioned_margin_usd_mw_year": ("margin\n$/MW-y", "margin: a year of a provisioned MW"),
    "provisioned_revenue_usd_mw_year": ("revenue\n$/MW-y", "revenue: a year of a provisioned MW"),
}


def point_columns(study: StudyConfig) -> list[Column | str]:
    """The columns of `cells`."""
    hardware, target = study.hardware, study.objective.metric
    found: list[Column | str] = ["trial", words("engine"), words("load")]
    found += [header.format(device=hardware.device) for header in LOAD.values()]
    found += ["$\n/Mtok"] if hardware.usd_per_device_hour else []
    if target in TARGETS:
        return [*found, TARGETS[target][0]]
    return found + (["tok/s\n/MW"] if hardware.kw_per_device else [])


def cells(entry: Finished, point: OperatingPoint, study: StudyConfig) -> list[str]:
    """A point's row under `point_columns`."""
    hardware, target = study.hardware, study.objective.metric
    rate = point.metrics.get("throughput_output_tok_s_device")
    found = [trial_name(entry), entry.engine, point.load]
    found += [number(point.metrics.get(metric)) for metric in LOAD]
    if hardware.usd_per_device_hour:
        found.append(number(None if rate is None else usd_per_million_tokens(rate, hardware)))
    if target in TARGETS:
        found.append(number(point.metrics.get(target)))
    elif hardware.kw_per_device:
        found.append(number(None if rate is None else tokens_per_s_per_mw(rate, hardware)))
    return found


def footnotes(study: StudyConfig, *, modelled: bool) -> list[str]:
    """The constants with their sources; which tokens, and whose joules or dollars, are counted."""
    hardware = study.hardware
    constants = {
        f"${{}} per {hardware.device}-hour": hardware.usd_per_device_hour,
        f"{{}} kW per {hardware.device}, provisioned": hardware.kw_per_device,
    }
    found = [
        f"{text.format(stated(constant.value))}: {constant.source}, {constant.date}"
        for text, constant in constants.items()
        if constant is not None
    ]
    energy = "modelled energy" if modelled else "metered energy"
    _, what = TARGETS.get(study.objective.metric, ("", ""))
    target = what.format(energy=energy, device=hardware.device)
    return [
        *found,
        f"tok/s and $ count output tokens; TTFT and TPOT in ms{'; ' if target else ''}{target}",
    ]


@dataclass(frozen=True, slots=True)
class ModelNote:
    """A line about what modelled figures rest on. `wrong`: it is known to be wrong."""

    text: str
    wrong: bool


def model_notes(entries: Sequence[Finished]) -> list[ModelNote]:
    """Of all trials, known faults first; a line that concerns some of them names their number."""
    emulated = [entry.result.provenance for entry in entries if ASSUMES in entry.result.provenance]
    found = []
    for key, label in ((KNOWN_WRONG, "KNOWN TO BE WRONG"), (ASSUMES, "assumed")):
        lines = Counter(line for facts in emulated for line in facts.get(key, ()))
        for text, count in lines.items():
            which = "" if count == len(emulated) else f" ({counted(count, 'trial')})"
            found.append(ModelNote(f"{label}{which}: {text}", key == KNOWN_WRONG))
    return found


def trial_name(entry: Finished) -> str:
    """The trial's number, marked where its figures are modelled."""
    return f"{entry.number} {MODELLED}" if entry.modelled else str(entry.number)
