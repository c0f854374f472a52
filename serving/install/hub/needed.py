"""Which models of a hub an engine reads."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from serving.engines import Engine, External
from serving.install import models
from serving.install.hub.cache import ModelCache, is_hub_id
from serving.install.hub.fetch import fetch
from serving.topology import Model

Say = Callable[[str], None]
RANDOM_WEIGHTS = "dummy"


@dataclass(frozen=True, slots=True)
class HubModel:
    """`weights`: False for an engine that makes random ones. `environ`: as the engine will have it."""

    name: str
    revision: str | None
    weights: bool
    environ: Mapping[str, str] = field(repr=False)

    @property
    def cache(self) -> ModelCache:
        """Where its files are, or will be."""
        return ModelCache(self.name, self.environ)


def hub_models(engine: Engine, model: Model, node: Mapping[str, str]) -> Iterator[HubModel]:
    """Those that an engine would fetch by itself when it starts. `node`: the variables of its node."""
    if isinstance(engine, External) or not engine.takes_revision:
        return
    environ = {**node, **engine.env}
    if environ.get("VLLM_USE_MODELSCOPE", "").lower() in ("1", "true"):
        return
    weights = _load_format(engine) != RANDOM_WEIGHTS
    named = [(model.source, model.revision), *((each, None) for each in engine.further_models)]
    for source, revision in named:
        if source not in models.SOURCES and is_hub_id(source):
            yield HubModel(source, revision, weights, environ)


def pinned_revision(engine: Engine, model: Model, node: Mapping[str, str]) -> str | None:
    """The commit of the served model that is here, whole and checked; else the revision as it is configured."""
    for each in hub_models(engine, model, node):
        if each.name == model.source:
            return each.cache.complete(each.revision, weights=each.weights) or model.revision
    return model.revision


def fetch_models(
    engines: Sequence[Engine],
    model: Model,
    node: Mapping[str, str],
    say: Say,
    *,
    weights: bool = True,
) -> dict[str, str]:
    """Fetches what the engines will read, unless it is here. Model → commit. Raises FetchError.

    `weights`: False for all else, such as config.json, from which follows what memory they need.
    """
    commits, done = dict[str, str](), set[tuple[Path, str | None, bool]]()
    for engine in engines:
        for each in hub_models(engine, model, node):
            wanted = weights and each.weights
            key = each.cache.folder, each.revision, wanted
            if key not in done:
                found = fetch(each.name, each.revision, say, each.environ, weights=wanted)
                commits[each.name] = found.commit
            done.add(key)
    return commits


def _load_format(engine: Engine) -> object:
    for word, after in pairwise([*engine.extra_args, ""]):
        name, given, value = word.partition("=")
        if name == "--load-format":
            return value if given else after
    named = {name.lstrip("-").replace("-", "_"): value for name, value in engine.flags.items()}
    return getattr(engine, "load_format", None) or named.get("load_format")
