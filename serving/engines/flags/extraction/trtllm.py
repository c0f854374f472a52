"""The flags of `trtllm-serve serve`: from its list of stable options, or from click's decorators."""

import ast
import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from serving.engines.flags.extraction.source import SourceTree
from serving.engines.flags.extraction.syntax import (
    Declared,
    Definitions,
    flag_of,
    literal,
    literal_values,
    named,
    spelled,
)
from serving.engines.flags.schema import Flag, FlagSchema
from serving.errors import LaunchError

SERVE = "tensorrt_llm/commands/serve.py"
LISTS = "tests/unittest/api_stability/"
OPTIONS = f"{LISTS}references/trtllm_serve_cli.yaml"  # of the repository, since the middle of 2026
LLM = (f"{LISTS}references_committed/llm.yaml", f"{LISTS}references/llm.yaml")
LLM_ARGS = "tensorrt_llm/llmapi/llm_args.py"
LEAVE_OUT = "leave it out"
TYPES: Mapping[str, str] = {"int": "int", "float": "float", "bool": "bool"}
OPTION_CALLS = {"option", "stability_option"}
NO_KEYS = {"kwargs", "model"}  # of the constructor, but no settings of its YAML


class _Stable(BaseModel):
    """An option of the list."""

    model_config = ConfigDict(frozen=True)

    type: str
    default: str | int | float | bool | None = None
    status: str = ""
    multiple: bool = False
    is_flag: bool = False
    flags: tuple[str, ...]


class _Parameter(BaseModel):
    model_config = ConfigDict(frozen=True)

    annotation: str
    default: Any = None


def trtllm_flags(source: SourceTree, near: FlagSchema | None) -> dict[str, Flag]:
    """All options of `serve`. `near`: a known version, for names and for what replaced a deprecated flag."""
    found = dict(_listed(source) if OPTIONS in source.files else _decorated(source))
    if near is None:
        return found
    return {(known := _known(name, flag, near))[0]: known[1] for name, flag in found.items()}


def trtllm_yaml(source: SourceTree) -> dict[str, Flag]:
    """The top-level keys of its YAML; empty if the source has neither the lists nor the class."""
    lists = [path for path in LLM if path in source.files]
    found = {name: flag for path in lists for name, flag in _parameters(source, path)}
    if not lists and LLM_ARGS in source.files:
        known = _definitions(source)
        fields = known.classes.get("TorchLlmArgs", {}).items()
        found = {name: flag_of(each, known) for name, each in fields if not name.startswith("_")}
    return {
        name: found[name].model_copy(update={"negatable": False})
        for name in sorted({*found} - NO_KEYS)
    }


def _known(name: str, flag: Flag, near: FlagSchema) -> tuple[str, Flag]:
    """The flag under the name that the known version has for it."""
    spellings = [name, *flag.aliases]
    own = next((each for each in spellings if each in near.flags), name)
    instead = near.flags[own].deprecated if own in near.flags else ""
    update: dict[str, object] = {"aliases": tuple(each for each in spellings if each != own)}
    if flag.deprecated and instead:
        update["deprecated"] = instead
    return own, flag.model_copy(update=update)


# --- the lists of the repository


def _loaded(source: SourceTree, path: str) -> Any:
    try:
        return yaml.safe_load(source.files[path])
    except yaml.YAMLError as error:
        raise LaunchError(f"{source.origin}, {path}: {str(error).splitlines()[0]}") from error


def _entries(source: SourceTree, path: str, *keys: str) -> Mapping[str, Any]:
    found = _loaded(source, path)
    for key in keys:
        found = found.get(key) if isinstance(found, Mapping) else None
    if not isinstance(found, Mapping):
        raise LaunchError(f"{source.origin}, {path}: there is no {'.'.join(keys)} in it")
    return found


def _listed(source: SourceTree) -> Iterator[tuple[str, Flag]]:
    for key, entry in _entries(source, OPTIONS, "commands", "serve", "options").items():
        try:
            option = _Stable.model_validate(entry)
        except ValidationError as error:
            detail = error.errors()[0]
            where = ".".join([str(key), *(str(part) for part in detail["loc"])])
            raise LaunchError(f"{source.origin}, {OPTIONS}: {where}: {detail['msg']}") from error
        words = [each for each in option.flags if not each.startswith("--no-")]
        own = f"--{key}"
        name = own if own in words else spelled(words)[0]
        yield (
            name,
            _of_listed(option).model_copy(
                update={"aliases": tuple(each for each in words if each != name)}
            ),
        )


def _of_listed(option: _Stable) -> Flag:
    choices = re.fullmatch(r"Choice\((\[.*\])\)", option.type, re.DOTALL)
    kind = "bool" if option.is_flag else TYPES.get(option.type, "str")
    return Flag.model_validate({
        "type": kind,
        "default": option.default,
        "choices": _choices(choices[1]) if choices else (),
        "negatable": any(each.startswith("--no-") for each in option.flags),
        "repeatable": option.multiple,
        "deprecated": LEAVE_OUT if option.status == "deprecated" else "",
    })  # fmt: skip


def _choices(text: str) -> tuple[Any, ...]:
    return literal_values(ast.parse(text, mode="eval").body, {})


def _parameters(source: SourceTree, path: str) -> Iterator[tuple[str, Flag]]:
    for key, entry in _entries(source, path, "methods", "__init__", "parameters").items():
        try:
            parameter = _Parameter.model_validate(entry)
            annotation = ast.parse(parameter.annotation.strip(), mode="eval").body
        except (ValidationError, SyntaxError) as error:
            raise LaunchError(f"{source.origin}, {path}: {key}: no annotation in it") from error
        # The classes of sections are named in the list, not defined.
        names = {named(n) for n in ast.walk(annotation) if isinstance(n, ast.expr)}
        sections: dict[str, dict[str, Declared]] = {n: {} for n in names if n.endswith("Config")}
        declared = Declared(annotation, _scalar(parameter.default))
        yield str(key), flag_of(declared, Definitions(classes=sections))


def _scalar(value: object) -> Any:
    """A default; None for one that is no plain value, which the list names `inspect._empty`."""
    plain = isinstance(value, str | int | float | bool) and value != "inspect._empty"
    return value if plain else None


# --- click's decorators


def _definitions(source: SourceTree) -> Definitions:
    known = Definitions()
    for _ in range(2):  # what is used may be defined in a later file
        for folder in ("tensorrt_llm/builder.py", "tensorrt_llm/llmapi/"):
            for tree in source.under(folder):
                known.add(tree)
    return known


def _decorated(source: SourceTree) -> Iterator[tuple[str, Flag]]:
    """Of the function that is the command `serve`, and of functions that decorate it."""
    functions = {
        node.name: node
        for tree in source.under("tensorrt_llm/commands/")
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
    }
    serve = next((each for each in functions.values() if _is_serve(each)), None)
    if serve is None:
        raise LaunchError(f"{source.origin}, {SERVE}: there is no command serve in it")
    known, keys = _definitions(source), _keys(source)
    for decorator in serve.decorator_list:
        call = decorator.func if isinstance(decorator, ast.Call) else decorator
        helper = functions.get(named(call))
        for node in ast.walk(helper or decorator):
            if isinstance(node, ast.Call) and named(node.func) in OPTION_CALLS:
                words = [w for each in node.args if isinstance(w := literal(each), str)]
                if any(word.startswith("-") for word in words):
                    yield _option(words, node, known, keys)


def _is_serve(function: ast.FunctionDef) -> bool:
    return any(
        isinstance(each, ast.Call)
        and named(each.func) == "command"
        and [literal(argument) for argument in each.args[:1]] == ["serve"]
        for each in function.decorator_list
    )


def _option(
    words: list[str], call: ast.Call, known: Definitions, keys: Mapping[str, tuple[str, ...]]
) -> tuple[str, Flag]:
    given = {each.arg: each.value for each in call.keywords if each.arg}
    # `--telemetry/--no-telemetry` is one word; a word without dashes is the parameter's name.
    on_off = [word.split("/") for word in words if word.startswith("-")]
    name, aliases = spelled([each[0] for each in on_off])
    status = given.get("status", _status(given.get("help")))
    choices, replaced = _of_type(given.get("type"), keys)
    is_flag = literal(given.get("is_flag")) is True or any(len(each) > 1 for each in on_off)
    kind = named(given["type"]) if "type" in given else "str"
    return name, Flag.model_validate({
        "type": "bool" if is_flag else TYPES.get(kind, "str"),
        "default": _default(given.get("default"), known),
        "choices": choices,
        "replaced": replaced,
        "aliases": aliases,
        "negatable": any(len(each) > 1 for each in on_off),
        "repeatable": literal(given.get("multiple")) is True,
        "deprecated": LEAVE_OUT if literal(status) == "deprecated" else "",
    })  # fmt: skip


def _status(text: ast.expr | None) -> ast.expr | None:
    """The last argument of `help_info_with_stability_tag(text, status)`."""
    return text.args[-1] if isinstance(text, ast.Call) and text.args else None


def _default(node: ast.expr | None, known: Definitions) -> Any:
    """A literal, or `Class.model_fields["name"].default`."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Subscript):
        fields, name = node.value.value, literal(node.value.slice)
        if isinstance(fields, ast.Attribute) and isinstance(name, str):
            declared = known.classes.get(named(fields.value), {}).get(name)
            return declared.default if declared else None
    return literal(node)


def _of_type(
    node: ast.expr | None, keys: Mapping[str, tuple[str, ...]]
) -> tuple[tuple[Any, ...], dict[str, str]]:
    """(the choices of `Choice(…)`, the ones that are taken as another): empty for another type."""
    if not isinstance(node, ast.Call) or not node.args or "Choice" not in named(node.func):
        return (), {}
    replaced = _mapping(node.args[1]) if len(node.args) > 1 else {}
    inner = node.args[0]
    while isinstance(inner, ast.Call) and isinstance(inner.func, ast.Name) and inner.args:
        inner = inner.args[0]  # list(…), sorted(…)
    if isinstance(inner, ast.Call):
        return keys.get(ast.unparse(inner.func).removesuffix(".keys"), ()), replaced
    return (*literal_values(inner, keys), *replaced), replaced


def _mapping(node: ast.expr) -> dict[str, str]:
    if not isinstance(node, ast.Dict):
        return {}
    pairs = zip(node.keys, node.values, strict=True)
    return {str(literal(key)): str(literal(value)) for key, value in pairs if key is not None}


def _keys(source: SourceTree) -> dict[str, tuple[str, ...]]:
    """The keys of dictionaries, by name or by `Class.name`; of a registry, by the name of its class."""
    found: dict[str, tuple[str, ...]] = {}
    for path in source.files:
        if not path.startswith("tensorrt_llm/"):
            continue
        tree = source.parsed(path)
        classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
        found |= dict(_dictionaries(tree.body, ""))
        registered = tuple(word for each in classes for word in _registered(each))
        for each in classes:
            found |= dict(_dictionaries(each.body, f"{each.name}."))
            if registered and each.name.endswith("Factory"):
                found |= dict.fromkeys((each.name, f"{each.name}.parsers"), registered)
    return found


def _dictionaries(body: list[ast.stmt], prefix: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    for node in body:
        if not isinstance(node, ast.Assign | ast.AnnAssign):
            continue
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target
        value = node.value
        if isinstance(target, ast.Name) and isinstance(value, ast.Dict) and value.keys:
            yield f"{prefix}{target.id}", tuple(str(literal(key)) for key in value.keys)


def _registered(node: ast.ClassDef) -> Iterator[str]:
    """The words of `@register_…("a", "b")` on a class, from the innermost decorator out."""
    for each in reversed(node.decorator_list):
        if isinstance(each, ast.Call) and named(each.func).startswith("register"):
            yield from (word for word in map(literal, each.args) if isinstance(word, str))
