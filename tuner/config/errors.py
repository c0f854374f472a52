"""Errors of a configuration as text: the path, what is wrong, and what would be right. Pure."""

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from tuner.config.fields import constraints_at, keys_at
from tuner.config.upgrade import RENAMED

SHOWN = 24  # options beyond these are not listed
LONG_TEXT, LONG_NUMBER = 200, 10**30
OUT_OF_RANGE = {
    "greater_than",
    "greater_than_equal",
    "less_than",
    "less_than_equal",
    "finite_number",
}


class ConfigError(Exception):
    """The configuration is invalid, and nothing was started. One line per error."""


def suggestion(word: str, known: Iterable[str], noun: str = "options") -> str:
    """«did you mean …?» for names close to the word, and the list of what exists."""
    options = sorted(set(known))
    if not options:
        return f"there are no {noun}"
    near = difflib.get_close_matches(word, options, n=2, cutoff=0.6)
    rest = f"{noun}: {', '.join(options[:SHOWN])}{', …' if len(options) > SHOWN else ''}"
    return f"did you mean {' or '.join(near)}? {rest}" if near else rest


def explain(error: ValidationError, data: Any, model: type[BaseModel]) -> ConfigError:
    """The errors that pydantic found when it validated `data` as `model`, one line each.

    Paths are those of the data: without the tags of unions, which pydantic's locations hold.
    """
    lines = dict.fromkeys(_line(each, data, model) for each in error.errors(include_url=False))
    return ConfigError("\n".join(lines))


def quoted(value: Any) -> str:
    """A value as messages show it: in one line, and not at any length."""
    if (
        isinstance(value, int) and abs(value) > LONG_NUMBER
    ):  # Python refuses to print very long ones
        return f"a number of {int(value.bit_length() * math.log10(2)) + 1} digits"
    text = " ".join(repr(value).split())
    return text if len(text) <= LONG_TEXT else f"{text[:LONG_TEXT]}…"


def renamed(path: str) -> str:
    """The error of a key that an older version had; empty for any other."""
    return f"{path}: this key is now {RENAMED[path]}" if path in RENAMED else ""


def _untagged(path: str, tag: str, data: Any) -> str:
    """Mostly a mistyped name: an override of a name that does not exist makes a new, empty entry."""
    *parents, last = path.split(".")
    for part in parents:
        data = data.get(part, {}) if isinstance(data, Mapping) else {}
    names = [name for name in data if name != last] if isinstance(data, Mapping) else []
    hint = f"; {suggestion(last, names, 'known names')}" if names else ""
    return f"{path}: unknown name, and no {tag} is given{hint}"


def _line(error: Mapping[str, Any], data: Any, model: type[BaseModel]) -> str:
    kind, given = error["type"], error["input"]
    path = ".".join(str(part) for part in _walk(error["loc"], data, absent=kind == "missing"))
    context = error.get("ctx", {})
    if kind == "extra_forbidden":
        known = keys_at(model, error["loc"][:-1])
        unknown = f"{path}: unknown key; {suggestion(str(error['loc'][-1]), known, 'keys')}"
        return renamed(path) or unknown
    if kind == "missing":
        return f"{path}: a value is missing"
    if kind == "union_tag_not_found":
        return _untagged(path, context["discriminator"].strip("'"), data)
    if kind == "union_tag_invalid":
        name, tag = context["discriminator"].strip("'"), context["tag"]
        known = [form.strip("'") for form in context["expected_tags"].split(", ")]
        return f"{path}.{name}: there is no {tag!r}; {suggestion(tag, known)}"
    text = error["msg"].removeprefix("Value error, ")
    if kind == "value_error" and isinstance(given, Mapping):
        return f"{path}: {text}" if path else text
    bounds = constraints_at(model, error["loc"]) if kind in OUT_OF_RANGE else ""
    why = f"must be {bounds}" if bounds else f"{text[0].lower()}{text[1:]}"
    return f"{path}: {why}, not {quoted(given)}"


def _walk(loc: Sequence[str | int], data: Any, *, absent: bool) -> list[str | int]:
    """The parts of a location that the data has; with `absent` also the last, which is missing there."""
    kept: list[str | int] = []
    for i, part in enumerate(loc):
        found, inner = _step(data, part)
        if found or (absent and i == len(loc) - 1):
            kept.append(part)
        data = inner if found else data
    return kept


def _step(data: Any, part: str | int) -> tuple[bool, Any]:
    """One step into a mapping (also by a dotted path, through nested ones) or a sequence."""
    if isinstance(data, Mapping) and part in data:
        return True, data[part]
    if isinstance(data, Mapping) and isinstance(part, str) and "." in part:
        first, _, rest = part.partition(".")
        return _step(data[first], rest) if first in data else (False, None)
    if isinstance(data, Sequence) and isinstance(part, int) and part < len(data):
        return True, data[part]
    return False, None


def refusal(field: FieldInfo, value: Any) -> str | None:
    """Why a field would reject a value; None if it would take it."""
    annotated: Any = Annotated[(field.annotation, *field.metadata, None)]
    try:
        TypeAdapter(annotated).validate_python(value)
    except ValidationError as error:
        return str(error.errors(include_url=False)[0]["msg"])
    return None
