"""Every configuration key: docs/reference/configuration.md."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel

from tests.reference.markdown import code, link, page, table
from tuner.config.compose import conf_dir
from tuner.config.fields import ANY, TAGS, FieldRow, every, forms, is_model, type_text
from tuner.config.groups.fleet import FleetConfig
from tuner.config.study import StudyConfig

INTRO = """A study is configured by choosing an option of each group of `conf/` (`hardware=b300`) and
by setting single keys (`search.trials=20`); `wattfront tune … --cfg job` prints the result. The
default is that of the key itself; an option may set another. Unknown keys are errors.

In paths, words in capitals stand for names of your choice, `[]` for each entry of a list; a list is
set as a whole: `workload.arrival.concurrency=[1,8,64]`. A key whose default is `null` may be unset. A
scalar is a number, a string or a bool."""
EXPERIMENTS = "An experiment chooses an option of each group, and sets keys:"
FLEET = (
    """What `wattfront fleet STUDY` plans from, as in `wattfront fleet STUDY fleet.megawatts=20`."""
)
# What a free key of a mapping is.
FREE = {
    "engine": "KIND",
    "economics.prices.tiers": "TIER",
    "fleet.demand": "TIER",
    "slo.tiers": "TIER",
    "space.parameters": "PATH",
}
OWN_SECTION = 3  # a model used in this many places or more is described once, at the end
TITLES = {"Estimate": "estimate", "Ranged": "length"}  # first model → how the type is called
SCALAR = "bool | int | float | string"
LONGEST, SHORT = 100, 40  # of a text: longer ones are cut
HEADER = ("key", "type", "default", "meaning")


@cache
def rows() -> tuple[FieldRow, ...]:
    """Every key of a study and of a fleet plan, with its default, wherever it may stand."""
    return (*every(StudyConfig), *every(FleetConfig, "fleet"))


def markdown() -> str:
    """The page."""
    groups = [name for name in StudyConfig.model_fields if any(_below(name))]
    single = [row for row in rows() if row.path in StudyConfig.model_fields]
    types = [_type_section(title, models) for title, models in _types().items()]
    titles = ["experiment", *groups, "Fleet plan", *_types()]
    return page(
        "Configuration",
        INTRO,
        " · ".join(link(title) for title in titles),
        _table([row for row in single if row.path not in groups]),
        "## experiment",
        EXPERIMENTS,
        _options("experiment"),
        *(_group(name) for name in groups),
        "## Fleet plan",
        FLEET,
        _options("fleet"),
        *_keys("fleet"),
        *types,
    )


def names(row: FieldRow) -> set[str]:
    """What the page may call a key: its path, or its last part in the section of a type."""
    if any(row.owner in models for models in _types().values()):
        return {row.path.split(".")[-1], _shown(row.path)}
    first = ".".join((_places()[row.owner][0][0], row.path.split(".")[-1])).removeprefix(".")
    kind = row.given[-1].partition("=")[2] if row.given else ""
    return {_shown(first), _shown(first, kind)}


def without_meaning() -> list[str]:
    """Keys that have no description."""
    return sorted({f"{row.path} ({row.owner.__name__})" for row in rows() if not row.description})


def _group(name: str) -> str:
    whole = next(row for row in rows() if row.path == name)
    about = f"{whole.description[0].upper()}{whole.description[1:]}." if whole.description else ""
    return "\n\n".join(part for part in (f"## {name}", about, _options(name), *_keys(name)) if part)


def _keys(name: str) -> Iterator[str]:
    """The tables of a group: the keys that are always there, then those of each kind."""
    ours = [row for row in _below(name) if _first_place(row)]
    yield _table([row for row in ours if not row.given])
    kinds: dict[str, dict[str, list[FieldRow]]] = {}
    for row in ours:
        if row.given:
            place, _, choice = row.given[-1].rpartition(".")
            kinds.setdefault(place, {}).setdefault(choice, []).append(row)
    for place, by_choice in kinds.items():
        yield from _union(place, by_choice)


def _union(place: str, by_choice: Mapping[str, list[FieldRow]]) -> Iterator[str]:
    """A table of what all kinds have in common, then one per kind."""
    common = _in_every(list(by_choice.values()))
    shown = _shown(place)
    if common:
        yield f"### `{shown}`, every kind"
        yield _table(common, _differing(by_choice))
    for choice, found in by_choice.items():
        tag, _, value = choice.partition("=")
        kind = next(row for row in found if row.path == f"{place}.{tag}")
        yield f"### `{_shown(place, value)}.{tag}={value}`"
        yield f"{kind.description.rstrip('.')}."
        named = {row.path for row in (*common, kind)}
        yield _table([row for row in found if row.path not in named], kind=value)


def _in_every(kinds: Sequence[Sequence[FieldRow]]) -> list[FieldRow]:
    """The keys that mean the same in every kind, by their first occurrence; the default may differ."""
    same = [{(r.path, r.yaml_type, r.constraints, r.description) for r in found} for found in kinds]
    in_all = set.intersection(*same) if len(same) > 1 else set()
    return [r for r in kinds[0] if (r.path, r.yaml_type, r.constraints, r.description) in in_all]


def _differing(by_choice: Mapping[str, Sequence[FieldRow]]) -> dict[str, str]:
    """Path → the usual default, and the kinds that have another."""
    defaults: dict[str, dict[str, list[str]]] = {}
    for choice, found in by_choice.items():
        for row in found:
            kinds = defaults.setdefault(row.path, {}).setdefault(row.default, [])
            kinds.append(choice.partition("=")[2])
    texts = {}
    for path, kinds_of in defaults.items():
        usual, *others = sorted(kinds_of, key=lambda value: -len(kinds_of[value]))
        exceptions = [f"{', '.join(kinds_of[each])}: {code(each)}" for each in others]
        texts[path] = "; ".join([code(usual), *exceptions])
    return texts


def _table(
    found: Iterable[FieldRow], defaults: Mapping[str, str] | None = None, kind: str = ""
) -> str:
    return table(
        HEADER,
        [
            (
                code(_shown(row.path, kind)),
                _type(row),
                (defaults or {}).get(row.path, _default(row)),
                row.description,
            )
            for row in found
        ],
    )


def _type_section(title: str, models: Sequence[type[BaseModel]]) -> str:
    """A type that many keys have: its keys, relative."""
    places = list(dict.fromkeys(path for path, _ in _places()[models[0]]))
    own = [row for row in rows() if row.path.rpartition(".")[0] == places[0]]
    users = ", ".join(code(_shown(path)) for path in places)
    parts = [f"## {title}", f"These keys stand below each of {users}."]
    for model in models:
        found = [row for row in own if row.owner is model]
        tag = next(
            (row for row in found if len(models) > 1 and row.path.split(".")[-1] in TAGS), None
        )
        if tag is not None:
            parts.append(f"**`kind: {get_args(_annotation(tag))[0]}`** – {tag.description}:")
        relative = [
            (code(r.path.split(".")[-1]), _type(r), _default(r), r.description)
            for r in found
            if r is not tag
        ]
        parts.append(table(HEADER, relative))
    return "\n\n".join(part for part in parts if part)


@cache
def _types() -> dict[str, tuple[type[BaseModel], ...]]:
    """The types that are described once: title → the models that such a value may be."""
    groups: dict[frozenset[str], list[type[BaseModel]]] = {}
    for model, places in _places().items():
        parents = frozenset(path for path, _ in places)
        if len(parents) >= OWN_SECTION:
            groups.setdefault(parents, []).append(model)
    return {TITLES.get(m[0].__name__, m[0].__name__): tuple(m) for m in groups.values()}


@cache
def _places() -> dict[type[BaseModel], list[tuple[str, tuple[str, ...]]]]:
    """Where each model stands: the path of its keys' parent, and the kinds that lead there."""
    found: dict[type[BaseModel], list[tuple[str, tuple[str, ...]]]] = {}
    for row in rows():
        place = (row.path.rpartition(".")[0], row.given)
        if place not in found.setdefault(row.owner, []):
            found[row.owner].append(place)
    return found


def _first_place(row: FieldRow) -> bool:
    """Whether the key is shown here: not of a type with a section of its own, nor shown before.

    One path of several kinds is shown with each, so that it counts as common to all.
    """
    if any(row.owner in models for models in _types().values()):
        return False
    if len({path for path, _ in _places()[row.owner]}) == 1 and row.given:
        return True
    return _places()[row.owner][0] == (row.path.rpartition(".")[0], row.given)


def _below(name: str) -> Iterator[FieldRow]:
    return (row for row in rows() if row.path.startswith(f"{name}."))


def _annotation(row: FieldRow) -> Any:
    return row.owner.model_fields[row.path.split(".")[-1]].annotation


def _type(row: FieldRow) -> str:
    """The type and what it is bounded by."""
    choices = forms(_annotation(row))
    models = [form for form in choices if is_model(form)]
    inside = [model for form in choices for model in _container(form)[1]]
    plain = [_plain(form) for form in choices if form not in models]
    text = _any_of(plain) + _bounds(row.constraints)
    if inside:
        return f"{text}: {_models(inside, row)}"
    return " or ".join(part for part in (text, _models(models, row) if models else "") if part)


def _plain(form: Any) -> str:
    """What a type without keys is called."""
    if get_origin(form) is Literal:
        return _any_of([code(value) for value in get_args(form)])
    return _container(form)[0].replace(SCALAR, "scalar").replace(" | ", " or ")


def _any_of(texts: Sequence[str]) -> str:
    """`a`, `a or b`, `a, b or c`."""
    *first, last = texts or [""]
    return f"{', '.join(first)} or {last}" if first else last


def _container(form: Any) -> tuple[str, list[type[BaseModel]]]:
    """`list` or `mapping` with the models inside, or what the type is called."""
    values = [each for each in get_args(form) if each is not Ellipsis][-1:]
    inner = [each for value in values for each in forms(value) if is_model(each)]
    return (type_text(form).partition(" of ")[0], inner) if inner else (type_text(form), [])


def _models(models: Sequence[type[BaseModel]], row: FieldRow) -> str:
    for title, known in _types().items():
        if models[0] in known:
            return link(title)
    tags = [tag for tag in TAGS if tag in models[0].model_fields]
    if len(models) > 1:
        return f"keys by {code(tags[0])}"
    first = _places()[models[0]][0][0]
    here = first in (row.path, f"{row.path}.{ANY}")
    return "keys below" if here else f"keys as {code(_shown(first))}"


def _bounds(constraints: str) -> str:
    parts = [part for part in constraints.split(", ") if part]
    text = ""
    for part in parts:
        if part.startswith("matches "):
            text += f", matching {code(part.removeprefix('matches '))}"
        elif part[0] in "≥>≤<":
            text += f"{',' if text else ''} {part}"
        else:
            text += f", {part}"
    return text


def _default(row: FieldRow) -> str:
    if row.required:
        return "required"
    long = len(row.default) > LONGEST and row.yaml_type == "string"
    return code(f"{row.default[:SHORT]}…" if long else row.default)


def _shown(path: str, kind: str = "") -> str:
    """A path as a reader would write it: `engine.vllm.dtype`, `objective.axes[].metric`."""
    steps = path.split(".")
    text = steps[0]
    for i, step in enumerate(steps[1:], 1):
        above = ".".join(steps[:i])
        if step != ANY:
            text += f".{step}"
        elif above in FREE:
            text += f".{kind if kind and FREE[above] == 'KIND' else FREE[above]}"
        else:
            text += "[]" if _is_list(above) else ".NAME"
    return text


@cache
def _is_list(path: str) -> bool:
    return any(row.path == path and row.yaml_type.startswith("list") for row in rows())


def _options(group: str) -> str:
    """The options of a group in conf/, with what each says of itself."""
    folder = conf_dir() / group
    files = sorted(folder.rglob("*.yaml"), key=lambda path: (path.parent != folder, path))
    chosen = _chosen().get(group)
    return table(
        ("option", "what it is"),
        [
            (
                code(f"{group}={path.relative_to(folder).with_suffix('').as_posix()}")
                + (" (default)" if path.stem == chosen else ""),
                first_comment(path),
            )
            for path in files
        ],
    )


def first_comment(path: Path) -> str:
    """The first sentence of a YAML file's comment; without one, its first line."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith("# @")]
    about = []
    for line in lines:
        if not line.startswith("# "):
            break
        about.append(line.removeprefix("# "))
    if not about:
        return code(lines[0])
    sentence, _, _ = " ".join(about).partition(". ")
    return sentence if sentence.endswith("…") else sentence.rstrip(".:;,") + "."


@cache
def _chosen() -> dict[str, str]:
    """Group → the option of conf/config.yaml, or of the fleet plan."""
    roots = [
        yaml.safe_load((conf_dir() / f"{n}.yaml").read_text()) for n in ("config", "fleet_plan")
    ]
    defaults = [each for root in roots for each in root["defaults"] if isinstance(each, dict)]
    return {str(group): str(option) for each in defaults for group, option in each.items()}
