"""Joules of a load level, and what they come to per token. Pure."""

from collections.abc import Mapping

ENERGY = {
    "power_w_device": "watts per device over the window",
    "energy_j_per_output_tok": "joules per output token",
    "energy_j_per_total_tok": "joules per token of prompts and output",
}
NOT_METERED = "no power source was metered"


def energy_figures(
    metrics: Mapping[str, float | None], joules: float | None, seconds: float, devices: int
) -> tuple[dict[str, float | None], dict[str, str]]:
    """The figures of `ENERGY`, and for each that is None the reason.

    `joules`: of all devices over the `seconds` of the level's window; None where nothing was metered.
    Gross: what idle devices of the trial draw is in it.
    """
    if joules is None or seconds <= 0:
        return dict.fromkeys(ENERGY), dict.fromkeys(ENERGY, NOT_METERED)
    watts = joules / seconds
    figures: dict[str, float | None] = {"power_w_device": watts / devices}
    reasons = {}
    for tokens in ("output", "total"):
        rate = metrics.get(f"throughput_{tokens}_tok_s")
        name = f"energy_j_per_{tokens}_tok"
        figures[name] = watts / rate if rate else None
        if not rate:
            reasons[name] = "no throughput was measured"
    return figures, reasons
