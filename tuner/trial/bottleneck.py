"""One sentence a load level, where the metrics of its engine explain it: what limits or flatters it. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil

from tuner.config.trial import TrialConfig
from tuner.metrics.notation import counted
from tuner.trial.result import OperatingPoint
from tuner.trial.simulate import repeats_prefixes

WAITS = 1.0  # mean requests in the queue: fewer are arrivals between two steps
FULL = (
    0.9  # share of the KV cache: the rest is blocks that are filled in part, and what a step needs
)
ROOM = 0.8  # below it the cache has room, so something else limits what runs
FLAT = 0.95  # mean over maximum: as many run all the time
PREEMPTED = 0.01  # of completed requests: fewer cost no throughput that can be seen
HITS, HIT_TOKENS = 0.1, 64  # a chat template is a common prefix too: of some 30 tokens


@dataclass(frozen=True, slots=True)
class _Level:
    """What the engine reported of a level. `who`: the load in words."""

    who: str
    running_mean: float | None
    running: float | None
    waiting: float | None
    kv_share: float | None
    preemptions: float
    preempted: bool

    @property
    def waits(self) -> bool:
        return self.waiting is not None and self.waiting >= WAITS

    @property
    def full(self) -> bool:
        """Requests are preempted only for want of KV blocks, and wait if another one's would not fit."""
        if self.preempted:
            return True
        if not (self.waits and self.kv_share and self.running):
            return False
        return self.kv_share >= FULL or 1 - self.kv_share < self.kv_share / self.running

    @property
    def queue(self) -> str:
        return f"{self.waiting:.0f} wait" if self.waits else ""


def explained(config: TrialConfig, points: Sequence[OperatingPoint]) -> dict[int, str]:
    """`OperatingPoint.level` → sentence, of a trial's points in rising order of load.

    A level has none where the metrics explain nothing, or are unavailable.
    """
    levels = [_level(config, point) for point in points]
    limit, pools = sequence_limit(config), len(config.pools) > 1
    # Queues and caches of two pools are added up: only a preemption is one's own.
    capped = ["" if pools else _capped(level, limit) for level in levels]
    full = [
        level.preempted or (level.full and not cap and not pools)
        for level, cap in zip(levels, capped, strict=True)
    ]
    found: dict[int, str] = {}
    for place, (point, level) in enumerate(zip(points, levels, strict=True)):
        onwards = not any(full[:place]) and len(full) - place > 1 and all(full[place:])
        parts = [_full(level, onwards=onwards)] if full[place] else [capped[place]]
        if text := "; ".join(each for each in (*parts, *_hits(config, point)) if each):
            found[point.level] = text
    return found


def sequence_limit(config: TrialConfig) -> tuple[str, tuple[float, ...]]:
    """The knob that limits how many requests run at once, and the limits it may set; none if it is not known.

    With data parallelism an engine counts by rank or in all.
    """
    engine = config.engine
    for knob, meaning in engine.meanings.items():
        value = getattr(engine, knob, None)
        if value is None:
            named = engine.flags.get(knob, engine.flags.get(knob.replace("_", "-")))
            value = engine.unset_means.get(knob) if named is None else named
        if meaning == "max_sequences" and isinstance(value, int):
            ranks = sorted({1, config.topology.data_parallel})
            return knob, tuple(float(value * each) for each in ranks)
    return "", ()


def _level(config: TrialConfig, point: OperatingPoint) -> _Level:
    metrics, arrival = point.metrics, config.workload.arrival
    closed = arrival.kind == "closed" or (arrival.kind == "adaptive" and arrival.loop == "closed")
    users = point.load_value if closed else None
    preemptions = metrics.get("engine_preemptions") or 0.0
    completed = metrics.get("requests_completed") or 0.0
    return _Level(
        point.load if users is None else counted(round(users), "user"),
        metrics.get("engine_running_mean"),
        metrics.get("engine_running_max"),
        metrics.get("engine_waiting_mean"),
        metrics.get("engine_kv_cache_share_max"),
        preemptions,
        preemptions >= max(1.0, PREEMPTED * completed),
    )


def _full(level: _Level, *, onwards: bool) -> str:
    since = f" from {level.who} on" if onwards else ""
    preemptions = counted(round(level.preemptions), "preemption") if level.preempted else ""
    return f"KV cache full{since}: {', '.join(each for each in (preemptions, level.queue) if each)}"


def _capped(level: _Level, limit: tuple[str, tuple[float, ...]]) -> str:
    """Requests wait although the cache has room: as many run as the engine lets run."""
    if not level.waits or not level.running or not level.running_mean:
        return ""
    knob, limits = limit
    for most in limits:
        if ceil(FLAT * most) <= level.running <= most:
            return f"{level.who}, but at most {most:.0f} run at once: {knob}; {level.queue}"
    roomy = level.kv_share is None or level.kv_share < ROOM
    if limits or not roomy or level.running_mean < FLAT * level.running:
        return ""
    runs = "runs" if level.running == 1 else "run"
    return f"{level.who}, but at most {level.running:.0f} {runs} at once; {level.queue}"


def _hits(config: TrialConfig, point: OperatingPoint) -> Iterator[str]:
    share = point.metrics.get("engine_prefix_hit_share")
    tokens = point.metrics.get("input_tokens_mean")
    if share is None or not tokens or repeats_prefixes(config.workload):
        return
    if share >= HITS and share * tokens >= HIT_TOKENS:
        yield f"prefix cache serves {share:.0%} of prompt tokens, though the workload shares none"
