"""Configurations as differences from a base: JSON pointer (RFC 6901) → new value. Pure."""

from collections.abc import Mapping
from typing import Any


def changes(base: Any, new: Any, pointer: str = "") -> dict[str, Any]:
    """What makes `new` of `base`. Mappings with other keys, and lists, are replaced as a whole."""
    if isinstance(base, dict) and isinstance(new, dict) and base.keys() == new.keys():
        found: dict[str, Any] = {}
        for key, value in new.items():
            found |= changes(base[key], value, f"{pointer}/{_escaped(key)}")
        return found
    return {} if _same(base, new) else {pointer: new}


def changed(base: Any, made: Mapping[str, Any]) -> Any:
    """The document that the changes make of `base`, which stays as it is. Raises KeyError."""
    for pointer, value in made.items():
        parts = [_plain(part) for part in pointer.split("/")[1:]]
        base = _replaced(base, parts, value, pointer)
    return base


def with_point(config: dict[str, Any], point: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration with the values of a point, where it has their paths."""
    for path, value in point.items():
        group, *rest = path.split(".")
        if group == "engine":  # a trial has one engine, without its name
            rest = rest[1:]
        try:
            config = _replaced(config, [group, *rest], value, path) if rest else config
        except KeyError:
            continue
    return config


def _replaced(document: Any, parts: list[str], value: Any, pointer: str) -> Any:
    if not parts:
        return value
    if not isinstance(document, dict) or parts[0] not in document:
        raise KeyError(pointer)
    return {**document, parts[0]: _replaced(document[parts[0]], parts[1:], value, pointer)}


def _same(one: Any, other: Any) -> bool:
    """1, 1.0 and true differ in JSON."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


def _plain(part: str) -> str:
    return part.replace("~1", "/").replace("~0", "~")
