"""Ledgers as older versions wrote them."""

from typing import Any

from pydantic import TypeAdapter
from pydantic_core import to_json

from tuner.results.ledger import Entry
from tuner.trial.result import Completed, Failed


def older_line(entry: Entry) -> bytes:
    """An entry as a line of format 1: no header, no bases."""
    line: dict[str, Any] = {
        "status": "asked" if entry.result is None else entry.result.status,
        "number": entry.number,
        "fingerprint": entry.fingerprint,
        "time": entry.time.isoformat(),
        "point": dict(entry.point),
    }
    if entry.repeat is not None:
        line |= {"role": "confirm", "of": entry.repeat.of, "round": entry.repeat.round}
    if entry.result is not None:
        line["result"] = TypeAdapter(Completed | Failed).dump_python(entry.result)
    return to_json(line, inf_nan_mode="constants") + b"\n"
