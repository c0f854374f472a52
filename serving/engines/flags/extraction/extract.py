"""`extract(source)`: the schema of the flags that a framework's source declares."""

import ast
import datetime
from collections.abc import Iterator

from serving.engines.flags.extraction.source import SourceTree
from serving.engines.flags.extraction.syntax import (
    Declared,
    Definitions,
    default_of,
    flag_of,
    literal,
    literal_values,
    named,
    registered_flag,
    registrations,
    spelled,
)
from serving.engines.flags.extraction.trtllm import trtllm_flags, trtllm_yaml
from serving.engines.flags.schema import Flag, FlagSchema, chosen
from serving.errors import LaunchError

Pairs = Iterator[tuple[str, Flag]]
ENGINE_ARGS = "vllm/engine/arg_utils.py"
SERVER_ARGS = "sglang/srt/server_args.py"


def extract(source: SourceTree) -> FlagSchema:
    """All flags of `vllm serve`, `sglang serve` or `trtllm-serve serve`.

    Raises LaunchError for an unknown layout of the source.
    """
    near = chosen(source.framework, source.version)
    found = _flags(source, near.schema if near else None)
    if not found:
        raise LaunchError(f"{source.origin}: no flags found: it is laid out in an unknown way")
    gone = dict(near.schema.gone) if near else {}
    if near:
        gone |= dict.fromkeys(set(near.schema.flags) - set(found), "")
    return FlagSchema(
        framework=near.schema.framework if near else "vllm",
        version=source.version,
        provenance=f"syntax of {source.origin}",
        extracted=datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        gone={name: instead for name, instead in sorted(gone.items()) if name not in found},
        flags=dict(sorted(found.items())),
        yaml=trtllm_yaml(source) if source.framework == "trtllm" else {},
    )


def _flags(source: SourceTree, near: FlagSchema | None) -> dict[str, Flag]:
    match source.framework:
        case "vllm":
            return dict(_vllm(source))
        case "sglang":
            return dict(_sglang(source))
        case _:
            return trtllm_flags(source, near)


def _vllm(source: SourceTree) -> Pairs:
    known = Definitions()
    for folder in ("vllm/", "vllm/"):
        for tree in source.under(folder):  # twice: what is used may be defined in a later file
            known.add(tree)
    engine = source.parsed(ENGINE_ARGS)
    configs = {
        target.id: named(node.value.args[0])
        for node in ast.walk(engine)
        if isinstance(node, ast.Assign) and isinstance(target := node.targets[0], ast.Name)
        if isinstance(node.value, ast.Call) and named(node.value.func) == "get_kwargs"
    }
    front = [tree for tree in source.under("vllm/entrypoints/") if _defines(tree, "FrontendArgs")]
    for tree in (engine, *front):
        for words, call in registrations(tree):
            if any(word.startswith("-") for word in words):
                name, aliases = spelled(words)
                flag = _of_config(call, configs, known) or registered_flag(call, known)
                yield name, flag.model_copy(update={"aliases": aliases})
    for field, declared in known.classes.get("FrontendArgs", {}).items():
        yield f"--{field.replace('_', '-')}", flag_of(declared, known)


def _defines(tree: ast.Module, name: str) -> bool:
    return any(isinstance(node, ast.ClassDef) and node.name == name for node in tree.body)


def _of_config(call: ast.Call, configs: dict[str, str], known: Definitions) -> Flag | None:
    """The flag of `add_argument("--x", **load_kwargs["field"])`."""
    spread = [each.value for each in call.keywords if each.arg is None]
    # Also `**{**load_kwargs["field"], "default": None}`.
    changed = [each for each in spread if isinstance(each, ast.Dict)]
    without = any(literal(key) == "default" for each in changed for key in each.keys)
    spread += [value for each in changed for value in each.values]
    for each in spread:
        if isinstance(each, ast.Subscript):
            field = literal(each.slice)
            fields = known.classes.get(configs.get(named(each.value), ""), {})
            if isinstance(field, str) and field in fields:
                flag = flag_of(fields[field], known)
                return flag.model_copy(update={"default": None}) if without else flag
    return None


def _sglang(source: SourceTree) -> Pairs:
    known = Definitions()
    for tree in (*source.under("sglang/srt/arg_groups/"), source.parsed(SERVER_ARGS)):
        known.add(tree)
    for tree in source.under("sglang/srt/arg_groups/fields/"):
        for node in ast.walk(tree):
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                yield from _sglang_field(node.target.id, node, known)
    for words, call in registrations(source.parsed(SERVER_ARGS)):
        if words[0].startswith("-"):
            name, aliases = spelled(words)
            yield name, registered_flag(call, known).model_copy(update={"aliases": aliases})


def _sglang_field(field: str, node: ast.AnnAssign, known: Definitions) -> Pairs:
    """The flag of `field: A[type, Arg(…)] = default`."""
    annotation = node.annotation
    if not (
        isinstance(annotation, ast.Subscript) and named(annotation.value) in ("A", "Annotated")
    ):
        return
    if not isinstance(annotation.slice, ast.Tuple):
        return
    plain, *marks = annotation.slice.elts
    calls = {named(mark.func): mark for mark in marks if isinstance(mark, ast.Call)}
    given = {each.arg: each.value for each in calls["Arg"].keywords} if "Arg" in calls else {}
    if "Derived" in calls or literal(given.get("no_cli")) is True:
        return
    flag = flag_of(Declared(plain, default_of(node.value)), known)
    choices = literal_values(given["choices"], known.choices) if "choices" in given else ()
    aliases = given.get("aliases")
    update: dict[str, object] = {}
    if flag.type == "bool":
        action = given.get("action")
        update["negatable"] = action is not None and named(action) == "BooleanOptionalAction"
    if choices:
        update |= {"choices": choices, "open": False}
    if isinstance(aliases, ast.List):
        update["aliases"] = tuple(str(literal(each)) for each in aliases.elts)
    cli_name = literal(given.get("cli_name"))
    name = str(cli_name) if cli_name else f"--{field.replace('_', '-')}"
    yield name, flag.model_copy(update=update)
