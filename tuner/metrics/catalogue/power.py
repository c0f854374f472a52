"""The metrics that are metered: watts and joules of a load level, and the state of the boards. Pure."""

from tuner.metrics.catalogue.metric import Metric, by_name

BOARDS = by_name((
    Metric(
        name="power_valid",
        unit="0 or 1",
        label="power valid",
        meaning="1: the metered power of the GPU boards is valid; 0: it is not, so no joules are given",
    ),
    Metric(
        name="power_w_device",
        unit="W/device",
        label="W per {device}",
        meaning="mean power of a GPU board over the window",
        per_device=True,
        boundary="board",
    ),
    Metric(
        name="energy_j_per_output_tok",
        unit="J/tok",
        label="J of GPU boards per output token",
        meaning="energy of the GPU boards per output token, idle power included (gross)",
        direction="min",
        boundary="board",
    ),
    Metric(
        name="energy_j_per_total_tok",
        unit="J/tok",
        label="J of GPU boards per input + output token",
        meaning="energy of the GPU boards per input or output token, idle power included (gross)",
        direction="min",
        boundary="board",
    ),
    Metric(
        name="net_energy_j_per_output_tok",
        unit="J/tok",
        label="net J of GPU boards per output token",
        meaning="energy of the GPU boards per output token, less their power loaded and idle",
        direction="min",
        boundary="board",
    ),
    Metric(
        name="net_energy_j_per_total_tok",
        unit="J/tok",
        label="net J of GPU boards per input + output token",
        meaning="energy of the GPU boards per input or output token, less their power loaded and idle",
        direction="min",
        boundary="board",
    ),
    Metric(
        name="power_counter_error",
        unit="share",
        label="energy counter error",
        meaning="(energy counter − integral of sampled power) ÷ integral",
        signed=True,
    ),
))  # fmt: skip
IDLE = by_name((
    Metric(
        name="power_idle_w_device",
        unit="W/device",
        label="idle W per {device}",
        meaning="mean power of a GPU board before the engine starts",
        per_device=True,
        boundary="board",
    ),
    Metric(
        name="power_loaded_idle_w_device",
        unit="W/device",
        label="loaded idle W per {device}",
        meaning="mean power of a GPU board with the model loaded and no load",
        per_device=True,
        boundary="board",
    ),
))  # fmt: skip
ENERGY = BOARDS | IDLE

# There only where they apply: two pools, a driver that reports clocks, a source that is configured.
ROLES = by_name((
    Metric(
        name="prefill_energy_j_per_input_tok",
        unit="J/tok",
        label="J of prefill boards per input token",
        meaning="energy of the GPU boards that run prefill, per input token (disaggregated serving only)",
        direction="min",
        boundary="board",
    ),
    Metric(
        name="decode_energy_j_per_output_tok",
        unit="J/tok",
        label="J of decode boards per output token",
        meaning="energy of the GPU boards that run decode, per output token (disaggregated serving only)",
        direction="min",
        boundary="board",
    ),
))  # fmt: skip
STATE = by_name((
    Metric(
        name="sm_clock_mhz",
        unit="MHz",
        label="SM clock (MHz)",
        meaning="mean SM clock of the boards over the window",
    ),
    Metric(
        name="temperature_c_max",
        unit="°C",
        label="hottest board (°C)",
        meaning="temperature of the hottest board in the window",
    ),
    Metric(
        name="power_capped_share",
        unit="share",
        label="power-capped share",
        meaning="share of readings at which a board was held at its power limit",
    ),
))  # fmt: skip
HOST = by_name((
    Metric(
        name="node_power_w_device",
        unit="W/device",
        label="W of the node per {device}",
        meaning="power of the whole node at its supply, over its devices (source: power.sources.node)",
        per_device=True,
        boundary="node",
    ),
    Metric(
        name="cpu_power_w",
        unit="W",
        label="W of the processors",
        meaning="power of the node's processor packages",
    ),
    Metric(
        name="dram_power_w",
        unit="W",
        label="W of memory",
        meaning="power of the node's memory",
    ),
))  # fmt: skip
POWER = ENERGY | ROLES | STATE | HOST
