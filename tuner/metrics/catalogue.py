"""Every metric that an operating point can have. Pure."""

EARNINGS = {
    "cost_usd_device_hour": "dollars that an hour of a device costs, sold or idle",
    "cost_usd_per_m_output_tok": "dollars of cost per million output tokens sold",
    "cost_usd_per_m_total_tok": "dollars of cost per million prompt and output tokens sold",
    "cost_usd_per_m_blended_tok": (
        "dollars of cost per million output tokens sold, a prompt token counted at its share of their price"
    ),
    "revenue_usd_device_hour": "dollars that an hour of a device earns, idle hours counted in",
    "margin_usd_device_hour": "revenue less cost of a device-hour, in dollars",
    "provisioned_revenue_usd_mw_year": "dollars of revenue per year and provisioned megawatt",
    "provisioned_margin_usd_mw_year": "dollars of margin per year and provisioned megawatt",
    "facility_revenue_usd_mw_year": "dollars of revenue per year and megawatt of the building",
    "facility_margin_usd_mw_year": "dollars of margin per year and megawatt of the building",
    "break_even_utilisation": "the share of hours that must be sold for revenue to equal cost",
}


SIGNED = {name for name in EARNINGS if "margin" in name}  # the only figures that may be below 0


NEEDS_PRICES = {name for name in EARNINGS if not name.startswith("cost")} | {
    "cost_usd_per_m_blended_tok"
}
