"""Which settings can change what a model answers, and which trials therefore answer the fixed prompts. Pure."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from pydantic import TypeAdapter

from serving.engines import Engine
from serving.engines.flags.structured import Structured
from tuner.config.fields import forms, is_model
from tuner.config.groups.quality import QualityPrompts
from tuner.config.groups.space import ENGINE, Point, Space
from tuner.config.study import StudyConfig
from tuner.config.trial import TrialConfig

# Settings of every engine that say how it is started, reached and stopped.
WITHOUT_EFFECT = frozenset(
    {"kind", "env_passthrough", "start_timeout_s", "stop_grace_s", "api_key_env"}
)
_ENGINE: TypeAdapter[Engine] = TypeAdapter(Engine)


def prompts_of(study: StudyConfig, point: Point, trial: TrialConfig) -> QualityPrompts | None:
    """What a trial answers after its load; None: nothing, as its numerics are those of the default.

    The default of the first engine answers wherever another trial may: it is the reference. Emulated engines
    answer nothing.
    """
    quality = study.quality
    if quality.check == "none" or trial.hardware.twin is not None:
        return None
    first = next(iter(study.engine))
    if quality.check == "all":
        return quality.asked()
    if is_default(point) and point.get(ENGINE, first) == first:
        return quality.asked() if numerics_vary(study) else None
    return quality.asked() if differs(study, trial) else None


def answers(study: StudyConfig) -> bool:
    """Whether any trial of the study answers after its load."""
    check = study.quality.check
    wanted = check == "all" or (check == "numerics" and numerics_vary(study))
    return wanted and study.hardware.twin is None


def differs(study: StudyConfig, trial: TrialConfig) -> bool:
    """Whether a trial may answer otherwise than the first engine as configured."""
    first = next(iter(study.engine.values()))
    return study.model != trial.model or changes_numerics(first, trial.engine)


def is_default(point: Point) -> bool:
    """Whether a point chooses nothing but the engine."""
    return not set(point) - {ENGINE}


def numerics_vary(study: StudyConfig) -> bool:
    """Whether a trial of the study may answer otherwise than its first engine as configured."""
    first, *others = study.engine.values()
    return any(changes_numerics(first, other) for other in others) or any(
        numeric(path, study.space, study.engine) for path in study.space.parameters
    )


def numeric(path: str, space: Space, engines: Mapping[str, Engine]) -> bool:
    """Whether a parameter of a space may change what is answered."""
    group, _, rest = path.partition(".")
    if group != ENGINE or "." not in rest:
        return group == "model"
    name, _, setting = rest.partition(".")
    known = engines.get(name)
    if known is None:
        return False
    knob, _, inner = setting.partition(".")
    field = type(known).model_fields.get(knob)
    inside = forms(field.annotation) if field is not None and inner else []
    same = (
        each.same_numerics for each in inside if is_model(each) and issubclass(each, Structured)
    )
    return knob not in WITHOUT_EFFECT | known.same_numerics and not any(
        inner in each for each in same
    )


def changes_numerics(engine: Engine, other: Engine) -> bool:
    """Whether one may answer otherwise than the other."""
    if engine.kind != other.kind:
        return True
    one, two = _counting(engine), _counting(other)
    return one != two and _numerics(one) != _numerics(two)


def _counting(engine: Engine) -> str:
    """The settings that count, as JSON."""
    return engine.model_dump_json(exclude=set(WITHOUT_EFFECT - {"kind"} | engine.same_numerics))


@lru_cache(maxsize=4096)
def _numerics(settings: str) -> dict[str, Any]:
    """Those of `_counting` that repeat no default.

    Kept, as a search asks it of each candidate: comparing with a version's flags takes milliseconds.
    """
    engine = _ENGINE.validate_json(settings)
    ignored = WITHOUT_EFFECT | engine.same_numerics
    said = {
        name: value.numeric() if isinstance(value, Structured) else value
        for name, value in engine.canonical()
        if name not in ignored
    }
    return {name: value for name, value in said.items() if value not in (None, {}, ())}
