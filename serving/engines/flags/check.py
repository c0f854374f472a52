"""What is wrong with the flags of a command line, by the schema of a version. Pure."""

import difflib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from serving.engines.flags.layouts import RESERVED
from serving.engines.flags.schema import (
    Chosen,
    Flag,
    FlagSchema,
    known_in,
    schema_of,
    versions,
)

SHOWN = 12  # choices beyond these are not listed
WHOLE = re.compile(r"[+-]?\d[\d_]*")
SUFFIXED = re.compile(r"\d+(\.\d+)?[kKmMgGtT]|auto")  # vLLM: 8k, auto


@dataclass(frozen=True, slots=True)
class Finding:
    """One line about one flag. `fatal`: the engine would refuse it."""

    flag: str
    text: str
    fatal: bool


def check(chosen: Chosen, words: Sequence[str]) -> list[Finding]:
    """Findings of the words behind the model, in order.

    Of a version that is not known exactly only flags that were removed are fatal; where none is known, what
    every known version refuses.
    """
    found = list(_findings(chosen.schema, words))
    if chosen.exact or not found:
        return found
    gone = set(chosen.schema.gone)
    if chosen.assumed:
        framework = chosen.schema.framework
        refused = (
            {each.flag for each in _findings(schema_of(framework, version), words) if each.fatal}
            for version in versions(framework)
        )
        gone = set.intersection(*refused)
    return [Finding(f.flag, f.text, f.fatal and f.flag in gone) for f in found]


def reserved(schema: FlagSchema, words: Sequence[str]) -> list[Finding]:
    """Findings of a user's own words about flags that only Wattfront sets."""
    found = []
    for word in words:
        typed = word.partition("=")[0]
        spelled = _resolved(schema, typed)[0] if _is_flag(word) else None
        owner = RESERVED[schema.framework].get(spelled or "")
        if owner is not None:
            hint = f": use {owner}" if owner else ", as it decides which devices a trial takes"
            found.append(Finding(typed, f"{typed} is set by Wattfront{hint}", fatal=True))
    return found


def value_error(schema: FlagSchema, name: str, value: object) -> str:
    """Why a flag can't have a value of a configuration; empty if it can. `name`: as for `FlagSchema.find`."""
    spelled = schema.find(name)
    if spelled is None:
        return _unknown(schema, f"--{name.lstrip('-')}")
    flag = schema.flags[spelled]
    if flag.type == "bool":
        if not isinstance(value, bool):
            return f"{spelled} is a switch: true or false, not {value!r}"
        if value is False and not flag.negatable and flag.default is True:
            return f"{spelled} can't be turned off in {schema.title}"
        return ""
    if isinstance(value, bool) and flag.choices and value not in flag.choices:
        return f"{spelled} takes {_listed(flag)}, not {str(value).lower()}"
    return _text_error(schema, spelled, flag, as_text(value)) if _single(value) else ""


def written(schema: FlagSchema | None, name: str, value: object) -> list[str]:
    """The words of a flag with a value of a configuration. Unknown names are taken as they are."""
    bare = name.lstrip("-")
    spelled = (schema and schema.find(name)) or (
        f"--{bare}" if schema and schema.framework == "trtllm" else f"--{bare.replace('_', '-')}"
    )
    flag = schema.flags.get(spelled) if schema else None
    if value is None:
        return []
    if isinstance(value, bool) and (flag is None or flag.type == "bool"):
        off = [f"--no-{spelled.removeprefix('--')}"] if flag is not None and flag.negatable else []
        return [spelled] if value else off
    if isinstance(value, Mapping):
        return [spelled, json.dumps(value)]
    if isinstance(value, list | tuple):
        if flag is not None and flag.type == "json":
            return [spelled, json.dumps(value)]
        return [spelled, *(as_text(each) for each in value)]
    return [spelled, as_text(value)]


def as_text(value: object) -> str:
    """A value as a person would type it: no binary remainder of a decimal fraction."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return repr(round(value, 12))
    return str(value)


def _single(value: object) -> bool:
    return isinstance(value, str | int | float)


def _findings(schema: FlagSchema, words: Sequence[str]) -> Iterator[Finding]:
    index = 0
    while index < len(words):
        word = words[index]
        index += 1
        if not _is_flag(word):
            continue
        written_name, equals, given = word.partition("=")
        values = [given] if equals else []
        if not equals:
            while index + len(values) < len(words) and not _is_flag(words[index + len(values)]):
                values.append(words[index + len(values)])
        index += 0 if equals else len(values)
        yield from _of_flag(schema, written_name, values)


def _is_flag(word: str) -> bool:
    return word.startswith("--") or re.fullmatch(r"-[a-zA-Z].*", word) is not None


def _of_flag(schema: FlagSchema, typed: str, values: Sequence[str]) -> Iterator[Finding]:
    if schema.framework == "vllm" and typed.startswith("-O"):
        return  # -O3: a level of optimization
    spelled, off, dotted = _resolved(schema, typed)
    if spelled is None:
        yield Finding(typed, _unknown(schema, typed), fatal=True)
        return
    flag = schema.flags[spelled]
    if flag.deprecated:
        use = "use " if flag.deprecated.startswith("--") else ""
        text = f"{typed} is deprecated in {schema.title}: {use}{flag.deprecated}"
        yield Finding(typed, text, fatal=False)
    if off and not flag.negatable:
        yield Finding(typed, f"{schema.title} has no {typed}, only {spelled}", fatal=True)
    if not dotted:
        count = _count_error(flag, typed, values)
        if count:
            yield Finding(typed, count, fatal=True)
        elif flag.type != "bool":
            yield from _of_values(
                schema, typed, flag, values if flag.type == "list" else values[:1]
            )


def _count_error(flag: Flag, typed: str, values: Sequence[str]) -> str:
    if flag.type == "bool":
        return f"{typed} takes no value, not {values[0]}" if values else ""
    if not values:
        return f"{typed} needs a value"
    if len(values) > 1 and flag.type in ("int", "float"):
        return f"{typed} takes one value, not {' '.join(values)}"
    return ""


def _of_values(
    schema: FlagSchema, typed: str, flag: Flag, values: Sequence[str]
) -> Iterator[Finding]:
    for value in values:
        if value in flag.replaced:
            text = f"{schema.title} takes {flag.replaced[value]} in place of {typed} {value}"
            yield Finding(typed, text, fatal=False)
        if text := _text_error(schema, typed, flag, value):
            yield Finding(typed, text, fatal=True)


def _resolved(schema: FlagSchema, typed: str) -> tuple[str | None, bool, bool]:
    """(the flag's own name, whether it is its --no- form, whether a key of its JSON is meant)."""
    name, dot, _ = typed.partition(".")
    dotted = bool(dot) and schema.framework == "vllm"
    if not dotted:
        name = typed
    spellings = schema.spellings
    if schema.framework == "vllm" and name.startswith("--"):
        name = name.replace("_", "-")
    if name in spellings:
        return (*spellings[name], dotted)
    if schema.framework != "trtllm" and name.startswith("--"):
        near = {spellings[each] for each in spellings if each.startswith(name)}
        if len(near) == 1:
            return (*near.pop(), dotted)
    return None, False, dotted


def _unknown(schema: FlagSchema, typed: str) -> str:
    line = f"{schema.title} has no {typed}"
    name = typed if schema.framework == "trtllm" else typed.replace("_", "-")
    if name in schema.gone:
        instead = schema.gone[name]
        return f"{line}: {f'use {instead}' if instead else 'it was removed'}"
    if schema.framework != "trtllm":
        several = sorted(each for each in schema.flags if each.startswith(name))
        if len(several) > 1:
            return f"{line}, which could be {' or '.join(several[:3])}"
    if same := schema.find(typed):
        return f"{line}: write {same}"
    if elsewhere := known_in(schema.framework, typed):
        return f"{line}: it is a flag of {', '.join(elsewhere)}"
    spellings = [each for each in schema.spellings if not each.startswith("--no-")]
    near = difflib.get_close_matches(name, spellings, n=2, cutoff=0.7)
    return f"{line}; did you mean {' or '.join(near)}?" if near else line


def _text_error(schema: FlagSchema, typed: str, flag: Flag, value: str) -> str:
    if flag.choices and not flag.open:
        known = {str(each).lower() if flag.any_case else str(each) for each in flag.choices}
        if (value.lower() if flag.any_case else value) not in known:
            near = difflib.get_close_matches(value, [str(c) for c in flag.choices], n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            return f"{typed} {value}: {schema.title} takes {_listed(flag)}{hint}"
        return ""
    reads = _READS.get(flag.type)
    if reads is None:
        return ""
    if schema.framework == "vllm" and flag.type == "int" and SUFFIXED.fullmatch(value):
        return ""
    number = reads(value)
    if number is None:
        return f"{typed} {value}: {schema.title} takes {'a whole number' if flag.type == 'int' else 'a number'}"
    return _bounds_error(typed, flag, number)


def _bounds_error(typed: str, flag: Flag, number: float) -> str:
    limits: tuple[tuple[float | None, bool, str], ...] = (
        (flag.ge, flag.ge is None or number >= flag.ge, "≥"),
        (flag.gt, flag.gt is None or number > flag.gt, ">"),
        (flag.le, flag.le is None or number <= flag.le, "≤"),
        (flag.lt, flag.lt is None or number < flag.lt, "<"),
    )
    broken = (
        f"{typed} {number:g}: must be {sign} {bound:g}" for bound, ok, sign in limits if not ok
    )
    return next(broken, "")


def _whole(text: str) -> float | None:
    return float(text.replace("_", "")) if WHOLE.fullmatch(text) else None


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


_READS: Mapping[str, Callable[[str], float | None]] = {"int": _whole, "float": _number}


def _listed(flag: Flag) -> str:
    names = [str(each) for each in flag.choices]
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more}"
