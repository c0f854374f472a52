"""What an operating point costs and earns. Pure."""

from tuner.metrics.catalogue.efficiency import BOUNDARIES
from tuner.metrics.catalogue.metric import Metric, by_name

USD_MW_YEAR = "$/MW/year"
FACILITY, PRICES, COST = "economics.facility", "economics.prices", "economics.capacity"
CONSTANT = "hardware.kw_per_device"


def _per_megawatt(boundary: str, kind: str, needs: tuple[str, ...]) -> Metric:
    """`kind`: revenue or margin."""
    place = BOUNDARIES[boundary]
    return Metric(
        name=f"{boundary}_{kind}_usd_mw_year",
        unit=USD_MW_YEAR,
        label=f"{kind}, $ a year per {place.phrase.format('MW')}",
        meaning=f"{kind} per year and megawatt; power: {place.meaning}",
        direction="max",
        signed=kind == "margin",
        boundary=place.name,
        needs=needs,
    )


EARNINGS = by_name((
    Metric(
        name="cost_usd_device_hour",
        unit="$/device/h",
        label="cost, $ per {device}-hour",
        meaning="cost of an hour of a device, sold or idle",
        direction="min",
        per_device=True,
        needs=(COST,),
    ),
    Metric(
        name="cost_usd_per_m_output_tok",
        unit="$/Mtok",
        label="cost, $ per million output tokens",
        meaning="cost per million output tokens sold",
        direction="min",
        needs=(COST,),
    ),
    Metric(
        name="cost_usd_per_m_total_tok",
        unit="$/Mtok",
        label="cost, $ per million input + output tokens",
        meaning="cost per million input and output tokens sold",
        direction="min",
        needs=(COST,),
    ),
    Metric(
        name="cost_usd_per_m_blended_tok",
        unit="$/Mtok",
        label="cost, $ per million blended tokens",
        meaning=(
            "cost per million output tokens sold, where an input token counts as the share of an output "
            "token that its price is"
        ),
        direction="min",
        needs=(PRICES, COST),
    ),
    Metric(
        name="revenue_usd_device_hour",
        unit="$/device/h",
        label="revenue, $ per {device}-hour",
        meaning="revenue of an hour of a device, unsold hours included",
        direction="max",
        per_device=True,
        needs=(PRICES,),
    ),
    Metric(
        name="margin_usd_device_hour",
        unit="$/device/h",
        label="margin, $ per {device}-hour",
        meaning="revenue less cost of an hour of a device",
        direction="max",
        signed=True,
        per_device=True,
        needs=(PRICES, COST),
    ),
    *(
        _per_megawatt(boundary, kind, needs)
        for boundary, kind, needs in (
            ("provisioned", "revenue", (PRICES, CONSTANT)),
            ("provisioned", "margin", (PRICES, CONSTANT, COST)),
            ("facility", "revenue", (FACILITY, PRICES)),
            ("facility", "margin", (FACILITY, PRICES, COST)),
        )
    ),
    Metric(
        name="break_even_utilisation",
        unit="share",
        label="break-even utilisation",
        meaning="share of hours that has to be sold for revenue to equal cost; above 1: never",
        direction="min",
        needs=(PRICES, COST),
    ),
))  # fmt: skip
