"""The samples of an engine's metrics as a Parquet file, one row per sample, in the trial's folder."""

import json
from io import BytesIO

from serving.telemetry.engine_metrics.page import QUANTITIES
from serving.telemetry.engine_metrics.trace import EngineTrace

FILE = "engine_metrics.parquet"


def to_bytes(trace: EngineTrace) -> bytes:
    """A row per sample: at_ns, and each of QUANTITIES, null where the page lacked it.

    `at_ns` is of the monotonic clock, as in the records. The schema's metadata has the path that was read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {"at_ns": pa.array(trace.at_ns)}
    for name in QUANTITIES:
        values = trace.values.get(name)
        columns[name] = (
            pa.nulls(len(trace.at_ns), pa.float64())
            if values is None
            else pa.array(values, from_pandas=True)  # NaN → null
        )
    about = {"path": trace.source, "every_s": trace.every_s, "absent_because": trace.absent_because}
    table = pa.table(columns).replace_schema_metadata({"source": json.dumps(about)})
    out = BytesIO()
    pq.write_table(table, out, compression="zstd")
    return out.getvalue()
