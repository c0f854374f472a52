"""Annotations, defaults and registrations of flags, read from syntax. Pure."""

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from serving.engines.flags.schema import Flag

Names = Mapping[str, tuple[Any, ...]]
SEQUENCES = {"list", "List", "set", "Set", "tuple", "Tuple", "Sequence"}
MAPPINGS = {"dict", "Dict", "Mapping"}


@dataclass(slots=True)
class Declared:
    """A field of a class: its annotation, and the default where it is a literal."""

    annotation: ast.expr
    default: Any = None


@dataclass(slots=True)
class Definitions:
    """What annotations refer to: choices of Literal aliases and enumerations, and the fields of classes."""

    choices: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    enums: set[str] = field(default_factory=set)
    classes: dict[str, dict[str, Declared]] = field(default_factory=dict)

    def add(self, tree: ast.Module) -> None:
        """The definitions of one file."""
        for node in tree.body:
            if isinstance(node, ast.ClassDef):
                self._add_class(node)
            elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
                target = node.targets[0] if isinstance(node, ast.Assign) else node.target
                values = literal_values(node.value, self.choices)
                if isinstance(target, ast.Name) and values:
                    self.choices[target.id] = values

    def _add_class(self, node: ast.ClassDef) -> None:
        bases = [named(base) for base in node.bases]
        if any(base.endswith("Enum") for base in bases):
            members = [each for each in node.body if isinstance(each, ast.Assign)]
            if "IntEnum" in bases:  # which is read as a number
                self.choices[node.name] = tuple(literal(each.value) for each in members)
                return
            names = [each.targets[0] for each in members]
            self.choices[node.name] = tuple(n.id for n in names if isinstance(n, ast.Name))
            self.enums.add(node.name)
            return
        found: dict[str, Declared] = {}
        for base in bases:
            found |= self.classes.get(base, {})
        fields = (each for each in node.body if isinstance(each, ast.AnnAssign))
        for each in fields:
            if isinstance(each.target, ast.Name) and "ClassVar" not in ast.dump(each.annotation):
                found[each.target.id] = Declared(each.annotation, default_of(each.value))
        self.classes[node.name] = found


def named(node: ast.expr) -> str:
    """The last part of a dotted name; empty for anything else."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def literal(node: ast.expr | None) -> Any:
    """A literal scalar; None for anything else."""
    try:
        value = None if node is None else ast.literal_eval(node)
    except ValueError:
        return None
    return value if isinstance(value, str | int | float | bool) else None


def default_of(node: ast.expr | None) -> Any:
    """The default of a field, also of one that is `Field(default=…)`."""
    if isinstance(node, ast.Call) and named(node.func) in ("Field", "field"):
        given = {each.arg: each.value for each in node.keywords}
        return literal(given.get("default", node.args[0] if node.args else None))
    return literal(node)


def literal_values(node: ast.expr, known: Names) -> tuple[Any, ...]:
    """The values of Literal[…], of a list of literals, or of a sum of both; empty if they are computed."""
    if isinstance(node, ast.Subscript) and named(node.value) == "Literal":
        inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        parts = [
            (literal(each),) if literal(each) is not None else known.get(named(each), ())
            for each in inner
        ]
        if isinstance(node.slice, ast.Name):
            return known.get(node.slice.id, ())
        return tuple(value for part in parts for value in part)
    if isinstance(node, ast.List | ast.Tuple | ast.Set):
        found: list[Any] = []
        for each in node.elts:
            starred = isinstance(each, ast.Starred)
            more = (
                known.get(named(each.value), ())
                if isinstance(each, ast.Starred)
                else (literal(each),)
            )
            if not starred and more == (None,):
                return ()
            found += more
        return tuple(found)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = literal_values(node.left, known), literal_values(node.right, known)
        return left + right if left and right else ()
    return known.get(named(node), ())


def alternatives(annotation: ast.expr) -> Iterator[ast.expr]:
    """The types that a value may have: unions, Optional and Annotated taken apart, None left out."""
    if isinstance(annotation, ast.Constant):
        if isinstance(annotation.value, str):
            yield from alternatives(ast.parse(annotation.value, mode="eval").body)
        return
    if isinstance(annotation, ast.BinOp):
        yield from alternatives(annotation.left)
        yield from alternatives(annotation.right)
    elif isinstance(annotation, ast.Subscript) and named(annotation.value) in (
        *("Optional", "Union", "Annotated", "A", "SkipValidation"),
    ):
        inner = annotation.slice
        several = list(inner.elts) if isinstance(inner, ast.Tuple) else [inner]
        whole = named(annotation.value) == "Union"
        for each in several if whole else several[:1]:
            yield from alternatives(each)
    else:
        yield annotation


def flag_of(declared: Declared, known: Definitions) -> Flag:
    """A flag whose value has this annotation."""
    kinds = list(alternatives(declared.annotation))
    names = {named(k.value if isinstance(k, ast.Subscript) else k) for k in kinds}
    default = declared.default
    if names >= {"bool", "str"}:
        return Flag(type="str", default=None if isinstance(default, bool) else default)
    if "bool" in names:
        return Flag(type="bool", default=default, negatable=True)
    if values := [v for each in kinds if (v := literal_values(each, known.choices))]:
        choices = tuple(dict.fromkeys(value for part in values for value in part))
        free, enum = "str" in names - set(known.choices), bool(names & known.enums)
        return Flag(type="str", default=default, choices=choices, open=free, any_case=enum)
    kind = _kind(names, known)
    fitting = default if kind not in ("list", "json") else None
    return Flag.model_validate({"type": kind, "default": fitting})


def _kind(names: set[str], known: Definitions) -> str:
    if names & SEQUENCES:
        return "list"
    for plain in ("int", "float"):
        if plain in names:
            return plain
    return "json" if names & MAPPINGS or names & set(known.classes) else "str"


def registrations(tree: ast.AST) -> Iterator[tuple[list[str], ast.Call]]:
    """The names and the call of each `….add_argument("--name", …)`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and named(node.func) == "add_argument":
            words = [literal(each) for each in node.args]
            if words and all(isinstance(each, str) for each in words):
                yield [str(each) for each in words], node


def registered_flag(call: ast.Call, known: Definitions) -> Flag:
    """A flag as its registration describes it."""
    given = {each.arg: each.value for each in call.keywords if each.arg}
    action = given.get("action")
    if action is not None and literal(action) in ("store_true", "store_false"):
        return Flag(type="bool", default=literal(given.get("default")))
    if action is not None and named(action) == "BooleanOptionalAction":
        return Flag(type="bool", default=literal(given.get("default")), negatable=True)
    if action is not None and named(action) == "DeprecatedStoreTrueAction":
        return Flag(type="bool", deprecated=str(literal(given.get("new_flag")) or "leave it out"))
    choices = literal_values(given["choices"], known.choices) if "choices" in given else ()
    plain = named(given["type"]) if "type" in given else "str"
    kind = "list" if "nargs" in given and literal(given["nargs"]) in ("+", "*") else plain
    kind = kind if kind in ("int", "float", "list") else "str"
    default = None if kind == "list" else literal(given.get("default"))
    return Flag.model_validate({"type": kind, "default": default, "choices": choices})


def spelled(words: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """(the name of a flag, its other names): the first with two dashes is the name."""
    name = next((word for word in words if word.startswith("--")), words[0])
    return name, tuple(word for word in words if word != name)
