"""What is wrong with a configuration, in words: the path, the fault, and what would be right."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

SHOWN = 24  # options beyond these are not listed


class ConfigError(Exception):
    """Nothing was started. One line for each thing that is wrong."""


def suggestion(word: str, known: Iterable[str], noun: str = "options") -> str:
    """«did you mean …?» if something is near, and what there is."""
    options = sorted(set(known))
    if not options:
        return f"there are no {noun}"
    near = difflib.get_close_matches(word, options, n=2, cutoff=0.6)
    rest = f"{noun}: {', '.join(options[:SHOWN])}{', …' if len(options) > SHOWN else ''}"
    return f"did you mean {' or '.join(near)}? {rest}" if near else rest


def explain(error: ValidationError, data: Any, model: type[BaseModel]) -> ConfigError:
    """`data`: what was validated as `model`. The path shown leaves the tags of unions out."""
    lines = dict.fromkeys(_line(fault, data, model) for fault in error.errors(include_url=False))
    return ConfigError("\n".join(lines))


def _untagged(path: str, tag: str, data: Any) -> str:
    """Mostly a mistyped name: an override of something that is not there makes a new, empty one."""
    *parents, last = path.split(".")
    for part in parents:
        data = data.get(part, {}) if isinstance(data, Mapping) else {}
    names = [name for name in data if name != last] if isinstance(data, Mapping) else []
    hint = f"; {suggestion(last, names, 'names there')}" if names else ""
    return f"{path}: not known, and it has no {tag}{hint}"


def _line(fault: Mapping[str, Any], data: Any, model: type[BaseModel]) -> str:
    kind, given = fault["type"], fault["input"]
    path = ".".join(str(part) for part in _walk(fault["loc"], data, absent=kind == "missing"))
    context = fault.get("ctx", {})
    if kind == "extra_forbidden":
        known = fields_at(model, fault["loc"][:-1])
        return f"{path}: unknown key; {suggestion(str(fault['loc'][-1]), known, 'keys')}"
    if kind == "missing":
        return f"{path}: a value is missing"
    if kind == "union_tag_not_found":
        return _untagged(path, context["discriminator"].strip("'"), data)
    if kind == "union_tag_invalid":
        name, tag = context["discriminator"].strip("'"), context["tag"]
        known = [form.strip("'") for form in context["expected_tags"].split(", ")]
        return f"{path}.{name}: there is no {tag!r}; {suggestion(tag, known)}"
    text = fault["msg"].removeprefix("Value error, ")
    if kind == "value_error" and isinstance(given, Mapping):
        return f"{path}: {text}" if path else text
    return f"{path}: {text[0].lower()}{text[1:]}, not {given!r}"


def _walk(loc: Sequence[str | int], data: Any, *, absent: bool) -> list[str | int]:
    """The parts that the data has; and the last, where that is what is absent from it."""
    kept: list[str | int] = []
    for i, part in enumerate(loc):
        found, inner = _step(data, part)
        if found or (absent and i == len(loc) - 1):
            kept.append(part)
        data = inner if found else data
    return kept


def _step(data: Any, part: str | int) -> tuple[bool, Any]:
    """Into a mapping (also by a dotted path, for a nested one) or a sequence."""
    if isinstance(data, Mapping) and part in data:
        return True, data[part]
    if isinstance(data, Mapping) and isinstance(part, str) and "." in part:
        first, _, rest = part.partition(".")
        return _step(data[first], rest) if first in data else (False, None)
    if isinstance(data, Sequence) and isinstance(part, int) and part < len(data):
        return True, data[part]
    return False, None


def fields_at(model: type[BaseModel], loc: Sequence[str | int]) -> list[str]:
    """The keys that the model at this location knows; a union is told apart by its tag in `loc`."""
    annotation: Any = model
    for part in loc:
        annotation = _inner(annotation, part)
    annotation = _stated(annotation)
    return list(annotation.model_fields) if _is_model(annotation) else []


def _stated(annotation: Any) -> Any:
    """The model of a field that may be None instead."""
    forms = [form for form in _flat(annotation) if form is not type(None)]
    return forms[0] if len(forms) == 1 else annotation


def _inner(annotation: Any, part: str | int) -> Any:
    """The type one step in: a field, a value of a mapping or sequence, a form of a union."""
    if _is_model(annotation):
        field = annotation.model_fields.get(str(part))
        return None if field is None else field.annotation
    forms = [form for form in _flat(annotation) if form is not type(None)]
    for form in forms:
        tags = (get_args(field.annotation) for field in _tags(form))
        if any(part in tag for tag in tags):
            return form
    if len(forms) == 1 and _is_model(forms[0]):
        return _inner(forms[0], part)
    arguments = get_args(annotation)
    return (
        arguments[-1]
        if arguments and arguments[-1] is not Ellipsis
        else next(iter(arguments), None)
    )


def _tags(form: Any) -> list[FieldInfo]:
    if not _is_model(form):
        return []
    return [form.model_fields[name] for name in ("kind", "type") if name in form.model_fields]


def _flat(annotation: Any) -> list[Any]:
    """The forms of a union, however nested in Annotated[…]."""
    if hasattr(annotation, "__metadata__"):
        return _flat(annotation.__origin__)
    if _is_union(annotation):
        return [form for argument in get_args(annotation) for form in _flat(argument)]
    return [annotation]


def _is_union(annotation: Any) -> bool:
    return isinstance(annotation, UnionType) or get_origin(annotation) is Union


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def refusal(field: FieldInfo, value: Any) -> str | None:
    """Why a field would not take a value, or None if it would."""
    annotated: Any = Annotated[(field.annotation, *field.metadata, None)]
    try:
        TypeAdapter(annotated).validate_python(value)
    except ValidationError as error:
        return str(error.errors(include_url=False)[0]["msg"])
    return None
