"""The columns of the Parquet files in a trial's folder."""

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.parquet as pq

from loadgen.http.response import Outcome
from loadgen.results.records import Records, to_parquet_bytes
from serving.telemetry import engine_file, power_file
from serving.telemetry.base import HARDWARE_SLOWDOWNS, SW_POWER_CAP, Device, Reading
from serving.telemetry.engine_metrics.trace import engine_trace
from serving.telemetry.trace import PowerTrace, device_trace
from tests.reference.ledger_lines import undescribed
from tests.reference.markdown import code, table

_OUTCOMES = ", ".join(f"{each.value} {each.name.lower().replace('_', ' ')}" for each in Outcome)
_BITS = ", ".join(
    f"{hex(bit)} {name}" for bit, name in {SW_POWER_CAP: "power cap", **HARDWARE_SLOWDOWNS}.items()
)
RECORDS: Mapping[str, str] = {
    "level": "load level, in the order of measurement, from 0",
    "slot": "closed loop: the user; open loop: the arrival, from 0; turns of a conversation share it",
    "due_ns": "when the request was due, ns",
    "sent_ns": "when it was sent, ns; 0: never",
    "first_ns": "arrival of the first event with output, ns; 0: none",
    "last_ns": "arrival of the last event with output, ns; 0: none",
    "end_ns": "the last byte of the response, or the failure, ns",
    "input_tokens": "prompt tokens, as the server reports them; -1: it does not",
    "output_tokens": "output tokens, as the server reports them; -1: it does not",
    "events": "events with output",
    "outcome": f"how the request ended: {_OUTCOMES}",
    "status": "HTTP status; 0: none",
    "exact_tokens": "1: `event_tokens` is reported; 0: the tokens of the response are spread over its events",
    "cached_tokens": "prompt tokens that the server found in its prefix cache; -1: it does not say",
    "error": "the error; empty: none",
    "doubt": "why the figures of the response are doubtful; empty: they are not",
    "oddity": "what was unusual in the response and was read nevertheless; empty: nothing",
    "event_ns": "arrival of each event, ns",
    "event_tokens": "tokens of each event",
}
POWER: Mapping[str, str] = {
    "source": "kind of the source: `nvml`, `rapl`, `redfish` …",
    "device": "the GPU's UUID, `package-0`, `node`",
    "boundary": "what is inside: gpu (board), cpu (packages), dram, node (whole machine)",
    "role": "prefill or decode, of a GPU that works for one of two pools; empty otherwise",
    "at_ns": "time of the reading, ns",
    "energy_j": "energy counter since some beginning, J",
    "power_w": "power, W",
    "limit_w": "power limit, W",
    "sm_clock_mhz": "SM clock, MHz",
    "memory_clock_mhz": "memory clock, MHz",
    "temperature_c": "temperature, °C",
    "memory_bytes": "memory in use, bytes",
    "throttle": f"NVML's reasons for reduced clocks, as bits: {_BITS}",
    "foreign": "processes on the device that are not the trial's; empty: none; null: not known",
    "fault": "why energy or power is missing; empty: it is not",
}
METADATA = "sources"
ENGINE: Mapping[str, str] = {
    "at_ns": "time of the sample, ns",
    "running": "requests that the engine runs",
    "waiting": "requests in its queue",
    "kv_cache_share": "share of the KV cache that requests hold; mean of several ranks",
    "preemptions": "preempted (SGLang: retracted) requests since the start",
    "prefix_hits": "prompt tokens (or blocks) that the prefix cache served, since the start",
    "prefix_queries": "prompt tokens (or blocks) that were looked up in it, since the start",
    "drafts": "draft tokens since the start",
    "accepted_drafts": "draft tokens that were accepted, since the start",
    "acceptance": "accepted share of draft tokens lately, of an engine that does not count them",
    "prefill_queue": "requests that wait in the prefill pool",
    "decode_queue": "requests that wait in the decode pool",
}


def records_table() -> str:
    """The columns of records.parquet."""
    return _table(records_schema(), RECORDS)


def power_table() -> str:
    """The columns of power.parquet."""
    return _table(power_schema(), POWER)


def records_schema() -> pa.Schema:
    """As the load generator writes it."""
    return pq.read_schema(pa.BufferReader(to_parquet_bytes(Records.of([]))))


def power_schema() -> pa.Schema:
    """As the meter writes it."""
    device = device_trace(Device("GPU-0", "gpu"), [Reading(0, "GPU-0", power_w=1.0)])
    trace = PowerTrace("nvml", "instant", 1.0, (device,))
    return pq.read_schema(pa.BufferReader(power_file.to_bytes([trace])))


def engine_table() -> str:
    """The columns of engine_metrics.parquet."""
    return _table(engine_schema(), ENGINE)


def engine_schema() -> pa.Schema:
    """As the sampler writes it."""
    trace = engine_trace([(0, {"running": 1.0})], "/metrics", 1.0)
    return pq.read_schema(pa.BufferReader(engine_file.to_bytes(trace)))


def problems() -> list[str]:
    """Columns without a meaning, and meanings without a column."""
    metadata = {key.decode() for key in power_schema().metadata} - {"ARROW:schema"}
    return [
        *undescribed("records.parquet", records_schema().names, RECORDS),
        *undescribed("power.parquet", power_schema().names, POWER),
        *undescribed("power.parquet metadata", metadata, {METADATA}),
        *undescribed("engine_metrics.parquet", engine_schema().names, ENGINE),
    ]


def _table(schema: pa.Schema, meanings: Mapping[str, str]) -> str:
    rows = [(code(each.name), _type(each.type), meanings.get(each.name, "")) for each in schema]
    return table(("column", "type", "meaning"), rows)


def _type(kind: pa.DataType) -> str:
    if pa.types.is_dictionary(kind):
        return str(kind.value_type)
    if pa.types.is_large_list(kind) or pa.types.is_list(kind):
        return f"list of {kind.value_type}"
    return str(kind)
