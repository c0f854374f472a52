"""What is wrong with the environment variables of an engine that is configured by them. Pure."""

import difflib
from collections.abc import Iterator, Mapping

from serving.engines.flags.check import WHOLE, Finding
from serving.engines.flags.schema import Chosen, Flag, FlagSchema

TRUTHS = ("0", "1", "true", "false")


def check_variables(known: Chosen, prefix: str, environ: Mapping[str, str]) -> list[Finding]:
    """Findings about the variables whose names begin so.

    An unknown one is no error: documentation may leave some out. One that was removed is, as the engine would
    run on without it.
    """
    schema = known.schema
    return [
        finding
        for name, value in environ.items()
        if name.startswith(prefix)
        for finding in _of(schema, name, value)
    ]


def _of(schema: FlagSchema, name: str, value: str) -> Iterator[Finding]:
    flag = schema.variables.get(name)
    if flag is not None:
        if text := _value_error(schema, name, flag, value):
            yield Finding(name, text, fatal=True)
        return
    line = f"{schema.title} has no {name}"
    if name in schema.gone:
        instead = schema.gone[name]
        text = f"{line}: {f'use {instead}' if instead else 'it was removed'}"
        yield Finding(name, text, fatal=True)
        return
    near = difflib.get_close_matches(name, schema.variables, n=2, cutoff=0.8)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    yield Finding(name, f"{line} by its documentation{hint}", fatal=False)


def _value_error(schema: FlagSchema, name: str, flag: Flag, value: str) -> str:
    if flag.choices:
        names = [str(each) for each in flag.choices]
        same = (
            value.lower() in [each.lower() for each in names] if flag.any_case else value in names
        )
        return "" if same else f"{name}={value}: {schema.title} takes {', '.join(names)}"
    if flag.type == "bool" and value.lower() not in TRUTHS:
        return f"{name}={value}: {schema.title} takes {', '.join(TRUTHS)}"
    if flag.type == "int" and not WHOLE.fullmatch(value):
        return f"{name}={value}: {schema.title} takes a whole number"
    if flag.type == "float" and not _is_number(value):
        return f"{name}={value}: {schema.title} takes a number"
    return ""


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
