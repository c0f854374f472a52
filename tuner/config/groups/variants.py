"""Variants: engines of one kind under names of their own, such as two versions. They share a space. Pure."""

from collections.abc import Callable, Mapping
from typing import Any

from tuner.config.groups.space import ENGINE, Constraint, Parameter, Space

Rename = Callable[[str], str]


def with_variants(space: Space, kinds: Mapping[str, str]) -> Space:
    """The space, with what it says of a kind for each variant that it does not name. `kinds`: by name."""
    for name, kind in kinds.items():
        if name != kind:
            space = _with_variant(space, name, kind)
    return space


def _with_variant(space: Space, name: str, kind: str) -> Space:
    of_kind, own = f"{ENGINE}.{kind}.", f"{ENGINE}.{name}."

    def renamed(path: str) -> str:
        return own + path.removeprefix(of_kind) if path.startswith(of_kind) else path

    parameters: dict[str, Parameter] = {}
    for path, parameter in space.parameters.items():
        if path.startswith(of_kind) and renamed(path) not in space.parameters:
            parameters[renamed(path)] = parameter.model_copy(
                update={"when": _renamed_keys(parameter.when, renamed)}
            )
    constraints = {
        f"{label} ({name})": _renamed(constraint, renamed)
        for label, constraint in space.constraints.items()
        if any(path.startswith(of_kind) for path in constraint.paths())
    }
    return space.model_copy(
        update={
            "parameters": {**space.parameters, **parameters},
            "constraints": {**constraints, **space.constraints},
        }
    )


def _renamed(constraint: Constraint, renamed: Rename) -> Constraint:
    def operand(side: Any) -> Any:
        return renamed(side) if isinstance(side, str) else side

    return constraint.model_copy(
        update={
            "left": operand(constraint.left),
            "right": operand(constraint.right),
            "left_times": tuple(map(operand, constraint.left_times)),
            "right_times": tuple(map(operand, constraint.right_times)),
            "when": _renamed_keys(constraint.when, renamed),
        }
    )


def _renamed_keys(when: Mapping[str, Any], renamed: Rename) -> dict[str, Any]:
    return {renamed(path): value for path, value in when.items()}
