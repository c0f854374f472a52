"""Empties an engine's prefix cache before each level, so that no level profits from the one before it."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from serving import probe
from serving.endpoint import CacheReset, Endpoint
from serving.engines import Engine
from tuner.config.trial import TrialConfig
from tuner.trial.simulate import repeats_prefixes

PREFIX_CACHE = "prefix_cache"  # in a result's provenance
RESET = "reset before each level"
PATIENCE_S = 10.0  # engines refuse while the last requests of a level are still being cancelled
PAUSE_S = 0.2


@dataclass(slots=True)
class PrefixCache:
    """The cache of one trial's engine. `reset`: how it is emptied; None: it is not, for the reason `kept`."""

    reset: CacheReset | None
    kept: str
    refused: list[str] = field(default_factory=list)

    def opened(self, engine: Engine) -> Engine:
        """The engine with the variables that open its reset."""
        if self.reset is None or not self.reset.environ:
            return engine
        return engine.model_copy(update={"env": {**dict(self.reset.environ), **engine.env}})

    def emptied(self, endpoint: Endpoint) -> Callable[[], None] | None:
        """What is called before each level; None: nothing."""
        reset = self.reset
        if reset is None:
            return None

        def before_level() -> None:
            for each in endpoint.members or (endpoint,):
                self._empty(each.base_url + reset.path, endpoint.api_key)

        return before_level

    def _empty(self, url: str, api_key: str | None) -> None:
        until_s = time.monotonic() + PATIENCE_S
        while (status := probe.posted(url, api_key)) != 200:
            if time.monotonic() > until_s:
                self.refused.append("no answer" if status is None else f"status {status}")
                return
            time.sleep(PAUSE_S)

    def closed(self, endpoint: Endpoint) -> Endpoint:
        """The endpoint as it is started elsewhere: without those variables."""
        ours = set(self.reset.environ) if self.reset else set()
        environ = tuple(pair for pair in endpoint.environ if pair not in ours)
        members = tuple(self.closed(each) for each in endpoint.members)
        return replace(endpoint, environ=environ, members=members)

    def facts(self) -> dict[str, object]:
        """What a trial's provenance says of it; empty where prompts share nothing."""
        if self.refused:
            path = self.reset.path if self.reset else ""
            return {PREFIX_CACHE: f"kept between levels: {path} gave {self.refused[-1]}"}
        said = RESET if self.reset is not None else self.kept
        return {PREFIX_CACHE: said} if said else {}


def prefix_cache_of(config: TrialConfig) -> PrefixCache:
    """Only workloads that repeat prefixes need it: all other prompts are unique."""
    if config.twin is not None or not repeats_prefixes(config.workload):
        return PrefixCache(None, "")
    engine = config.engine
    if engine.cache_reset is None:
        return PrefixCache(None, f"kept between levels: {engine.kind} can't empty it")
    if config.workload.placement == "apart" and engine.cache_reset.environ:
        # vLLM's API key guards /v1 alone: what the variable opens would be open to the network.
        return PrefixCache(
            None, "kept between levels: workload.placement=apart opens the port to others"
        )
    return PrefixCache(engine.cache_reset, "")
