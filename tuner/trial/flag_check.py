"""Whether an engine's version knows every flag that the trials of a study pass."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from serving.engines import External, Launch
from serving.engines.base import BaseEngine
from serving.engines.flags.check import Finding
from serving.engines.flags.installed import same_version
from serving.errors import ServingError
from serving.launch import HOST
from serving.topology import Member, Topology
from tuner.config.errors import ConfigError
from tuner.config.groups.space import ENGINE, Point, activating, values_to_try
from tuner.config.resolve import default_points, trial_config
from tuner.config.study import StudyConfig
from tuner.config.trial import TrialConfig


@dataclass(frozen=True, slots=True)
class FlagVerdict:
    """`errors`: lines about what the engine would refuse. `warnings`: about what is deprecated, or not known
    for sure. `used`: which version's flags were taken, and why."""

    errors: tuple[str, ...]
    warnings: tuple[str, ...]
    used: tuple[str, ...]


def judge_flags(study: StudyConfig, versions: Mapping[str, str | None]) -> FlagVerdict:
    """Of all trials of a study on real hardware. `versions`: engine → the installed one; None: not found."""
    errors, warnings = dict[str, None](), dict[str, None]()
    used = []
    for name, engine in study.engine.items():
        known = engine.known_flags(versions.get(name))
        if study.hardware.twin is not None or isinstance(engine, External) or known is None:
            continue
        used.append(f"engine.{name}: {known.why}")
        if line := _other_version(engine, versions.get(name)):
            errors[f"engine.{name}.version: {line}"] = None
        for finding in _findings(study, name, versions.get(name)):
            lines = errors if finding.fatal else warnings
            lines[f"engine.{name}: {finding.text}"] = None
    return FlagVerdict(tuple(errors), tuple(warnings), tuple(used))


def _other_version(engine: BaseEngine, installed: str | None) -> str:
    if engine.version is None or installed is None:
        return ""
    if same_version(engine.version, installed):
        return ""
    return f"{engine.version} is configured, and {installed} is installed"


def _findings(study: StudyConfig, name: str, version: str | None) -> Iterator[Finding]:
    """Of the default configuration, and of each value of each knob of the space."""
    for point in _points(study, name):
        try:
            config = trial_config(study, point)
            engine = config.engine  # its image or its version may be a value of the space
            own = engine.container and engine.container.version_of(engine.framework)
            own = own or (engine.version if engine.version != study.engine[name].version else None)
            for pool in config.pools:
                each = engine.as_member(Member(pool.role, 0, pool.layout))
                yield from each.findings(launch_of(config, pool.layout, own or version))
        except (ConfigError, ServingError):
            continue  # impossible for another reason, which is reported where it belongs


def launch_of(config: TrialConfig, layout: Topology, version: str | None) -> Launch:
    """As an engine of this version and layout would be started, on no particular node."""
    engine, model = config.engine, config.model
    return Launch(
        engine.executable or engine.default_executable,
        model.source,
        model.name,
        HOST,
        8000,
        layout,
        model.context_tokens,
        revision=model.revision,
        version=version,
    )


def _points(study: StudyConfig, name: str) -> Iterator[Point]:
    default = default_points(study)[name]
    yield default
    for path, parameter in study.space.parameters.items():
        if path.startswith(f"{ENGINE}.{name}."):
            for value in values_to_try(parameter):
                yield {**default, **activating(study.space, path), path: value}
