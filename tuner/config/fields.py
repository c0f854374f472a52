"""The fields of nested pydantic models: how a path finds one, and all of them in order. Pure."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

ANY = "*"  # in the path of a row: any key of a mapping, any place in a sequence
TAGS = ("kind", "type")  # the fields that discriminate unions
BOUNDS = {"ge": "≥ {}", "gt": "> {}", "le": "≤ {}", "lt": "< {}", "pattern": "matches {}"}
LENGTHS = {"min_length": "at least {} entries", "max_length": "at most {} entries"}
PLAIN = {"NoneType": "null", "str": "string", "Path": "path", "Any": "any"}


@dataclass(frozen=True, slots=True)
class FieldRow:
    """One field of a configuration, for reference.

    `path`: dotted, with `ANY` for keys that are free. `given`: the choices that a union's field exists for, as
    `workload.arrival.kind=poisson`. `default`: JSON; empty where the field is required, or is a model whose own
    fields follow. `owner`: the model that declares it.
    """

    path: str
    given: tuple[str, ...]
    yaml_type: str
    constraints: str
    required: bool
    default: str
    description: str
    owner: type[BaseModel]


def every(
    model: type[BaseModel], path: str = "", given: tuple[str, ...] = ()
) -> Iterator[FieldRow]:
    """Each field, followed by those of the models inside it. `path`, `given`: where the model itself is."""
    for name, field in model.model_fields.items():
        here = f"{path}.{name}" if path else name
        yield FieldRow(
            path=here,
            given=given,
            yaml_type=type_text(field.annotation),
            constraints=", ".join(_constraints(field.annotation, field.metadata)),
            required=field.is_required(),
            default=_default(field),
            description=field.description or "",
            owner=model,
        )
        for inner, steps, tag in _models_in(field.annotation):
            place = ".".join((here, *steps))
            chosen = (*given, f"{place}.{tag}") if tag else given
            yield from every(inner, place, chosen)


def field_at(model: type[BaseModel], path: Sequence[str]) -> FieldInfo | None:
    """The field that a path of names leads to; a free key of a mapping leads to the mapping's values."""
    annotation: Any = model
    field: FieldInfo | None = None
    for name in path:
        field = _field(annotation, name)
        if field is None:
            return None
        annotation = field.annotation
    return field


def keys_at(model: type[BaseModel], loc: Sequence[str | int]) -> list[str]:
    """The keys that the model at a location knows: a path of names, or one of pydantic's errors.

    Locations of errors also hold the tags of unions, which choose one form of several.
    """
    annotation: Any = model
    for part in loc:
        annotation = _inside(annotation, part)
    models = [form for form in forms(annotation) if is_model(form)]
    return list(dict.fromkeys(name for form in models for name in form.model_fields))


def constraints_at(model: type[BaseModel], loc: Sequence[str | int]) -> str:
    """The bounds of the last field that a location of an error names, as text; empty where there are none."""
    annotation: Any = model
    found: list[str] = []
    for part in loc:
        field = _field(annotation, part) if isinstance(part, str) else None
        if field is not None:
            found = _constraints(field.annotation, field.metadata)
        elif isinstance(part, int):
            found = [each.removeprefix("each ") for each in found if each.startswith("each ")]
        annotation = _inside(annotation, part)
    return ", ".join(found)


def forms(annotation: Any) -> list[Any]:
    """The types that a value may have, unions and Annotated[…] taken apart, None left out."""
    if hasattr(annotation, "__metadata__"):
        return forms(annotation.__origin__)
    if isinstance(annotation, UnionType) or get_origin(annotation) is Union:
        return [form for argument in get_args(annotation) for form in forms(argument)]
    return [] if annotation in (None, NoneType) else [annotation]


def is_model(annotation: Any) -> bool:
    """Whether it is a pydantic model."""
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def type_text(annotation: Any) -> str:
    """The type as YAML knows it: `int | null`, `list of string`, `"max" | "min"`, a model by its name."""
    if hasattr(annotation, "__metadata__"):
        return type_text(annotation.__origin__)
    if isinstance(annotation, UnionType) or get_origin(annotation) is Union:
        return " | ".join(type_text(argument) for argument in get_args(annotation))
    if get_origin(annotation) is Literal:
        return " | ".join(json.dumps(value) for value in get_args(annotation))
    values = _values(annotation)
    if values is not None:
        return f"{'mapping' if _is_mapping(annotation) else 'list'} of {type_text(values)}"
    name = str(annotation.__name__)
    return PLAIN.get(name, name)


def _field(annotation: Any, name: str) -> FieldInfo | None:
    """The field of this name in any form; of a mapping, and of what is not typed, every name is one."""
    for form in forms(annotation):
        if is_model(form) and name in form.model_fields:
            found: FieldInfo = form.model_fields[name]
            return found
        if _is_mapping(form):
            return FieldInfo(annotation=_values(form))
        if form is Any:
            return FieldInfo(annotation=Any)
    return None


def _inside(annotation: Any, part: str | int) -> Any:
    """One step into a location: a form of a union by its tag, a field, a value of a mapping or sequence."""
    choices = forms(annotation)
    tagged = [form for form in choices if part in _tag_values(form)]
    if tagged and len(choices) > 1:
        return tagged[0]
    field = _field(annotation, str(part))
    if field is not None:
        return field.annotation
    values = (_values(form) for form in choices)
    return next((value for value in values if value is not None), annotation)


def _tag_values(form: Any) -> tuple[Any, ...]:
    fields = form.model_fields if is_model(form) else {}
    return tuple(
        value for tag in TAGS if tag in fields for value in get_args(fields[tag].annotation)
    )


def _models_in(annotation: Any) -> Iterator[tuple[type[BaseModel], tuple[str, ...], str]]:
    """Each model in a type, the steps to it, and its tag (`kind=poisson`) where it is one of several."""
    choices = forms(annotation)
    several = sum(is_model(form) for form in choices) > 1
    for form in choices:
        if is_model(form):
            tags = [f"{tag}={value}" for tag in TAGS if several and tag in form.model_fields
                    for value in get_args(form.model_fields[tag].annotation)]  # fmt: skip
            yield form, (), next(iter(tags), "")
        elif (values := _values(form)) is not None:
            for model, steps, tag in _models_in(values):
                yield model, (ANY, *steps), tag


def _is_mapping(annotation: Any) -> bool:
    origin = get_origin(annotation)
    return isinstance(origin, type) and issubclass(origin, Mapping)


def _values(annotation: Any) -> Any:
    """The type of the values of a mapping or sequence; None of anything else."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if not isinstance(origin, type) or not arguments:
        return None
    if issubclass(origin, Mapping):
        return arguments[1]
    return arguments[0] if issubclass(origin, Sequence) else None


def _constraints(annotation: Any, metadata: Sequence[Any]) -> list[str]:
    """Bounds on a value, and on each value inside it."""
    found = _bounds(metadata)
    if hasattr(annotation, "__metadata__"):
        extra = [inner for each in annotation.__metadata__ for inner in _metadata(each)]
        return [*found, *_constraints(annotation.__origin__, extra)]
    if isinstance(annotation, UnionType) or get_origin(annotation) is Union:
        return [*found, *(text for form in get_args(annotation) for text in _constraints(form, ()))]
    values = _values(annotation)
    return (
        found
        if values is None
        else [*found, *(f"each {text.removeprefix('each ')}" for text in _constraints(values, ()))]
    )


def _metadata(each: Any) -> list[Any]:
    return each.metadata if isinstance(each, FieldInfo) else [each]


def _bounds(metadata: Sequence[Any]) -> list[str]:
    found = [
        text.format(_figure(getattr(each, name)))
        for each in metadata
        for name, text in (BOUNDS | LENGTHS).items()
        if getattr(each, name, None) is not None
    ]
    return ["not empty" if text == "at least 1 entries" else text for text in found]


def _figure(bound: Any) -> Any:
    whole = isinstance(bound, int) or (isinstance(bound, float) and bound.is_integer())
    return f"{int(bound):,}" if whole else bound


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if field.is_required() or isinstance(value, BaseModel):
        return ""
    return json.dumps(value, default=_plain, ensure_ascii=False)


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else str(value)
