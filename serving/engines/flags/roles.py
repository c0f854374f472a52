"""Engines of a prefill or a decode role: the settings of each, and what can't be laid out so. Pure."""

from collections.abc import Mapping
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from serving.engines.flags.layouts import refusal
from serving.topology import Role, Topology

KNOBS, TRANSFER = "prefill_knobs", "kv_transfer"
Settings = TypeVar("Settings", bound=BaseModel)


def in_role(engine: Settings, role: Role, transfers_by: Mapping[str, object]) -> Settings:
    """The engine's settings in that role. `transfers_by`: of `kv_transfer`, where it does not say.

    Raises ValueError, in one line.
    """
    if not role:
        return engine
    data = engine.model_dump()
    more = data.pop(KNOBS) if role == "prefill" else {}
    unknown = [name for name in more if name not in type(engine).model_fields]
    if unknown:
        raise ValueError(f"{KNOBS}: the engine has no knob {unknown[0]}")
    transfer = {**transfers_by, **(data[TRANSFER] or {}), "role": role}
    data |= {KNOBS: {}, TRANSFER: transfer, **more}
    try:
        return type(engine).model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{KNOBS if more else TRANSFER}: {where}: {first['msg']}") from error


def unfit(
    framework: str, engine: BaseModel, topology: Topology, transfers_by: Mapping[str, object]
) -> str:
    """Why engines of these settings can't be laid out so; empty if they can."""
    if topology.prefill is not None and TRANSFER not in type(engine).model_fields:
        return f"{framework} has no prefill engines of their own (topology.prefill)"
    if topology.prefill is None and getattr(engine, KNOBS):
        return f"engine.{framework}.{KNOBS} needs topology.prefill"
    for role, layout in {(each.role, each.topology) for each in topology.members}:
        try:
            settings = in_role(engine, role, transfers_by)
        except ValueError as error:
            return f"engine.{framework}.{error}"
        if why := refusal(framework, layout, dict(settings)):
            return why
    return ""
