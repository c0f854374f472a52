"""Keys that an older version wrote, and what they are called now. Pure."""

from collections.abc import Mapping
from typing import Any

RENAMED = {
    "objective.throughput": "objective.metric",
    "search.give_up_risk": "search.prune_risk",
    "search.confirm.contenders": "search.confirm.candidates",
}


def upgraded(data: Mapping[str, Any], renamed: Mapping[str, str]) -> dict[str, Any]:
    """A copy of nested mappings in which each old path stands under its new one.

    `renamed`: dotted old path → dotted new path. Where the new path has a value already, both stay as they are.
    """
    result = _copied(data)
    for old, new in renamed.items():
        parent, name = _parent(result, old)
        if parent is None or name not in parent:
            continue
        target, new_name = _parent(result, new, make=True)
        if target is not None and new_name not in target:
            target[new_name] = parent.pop(name)
    return result


def _parent(
    data: dict[str, Any], path: str, *, make: bool = False
) -> tuple[dict[str, Any] | None, str]:
    """The mapping that holds the last part of a path, and that part; None where there is no such mapping."""
    *parents, last = path.split(".")
    inner: Any = data
    for part in parents:
        if make:
            inner.setdefault(part, {})
        inner = inner.get(part)
        if not isinstance(inner, dict):
            return None, last
    return inner, last


def _copied(data: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _copied(value) if isinstance(value, Mapping) else value for key, value in data.items()
    }
