"""What a trial's settings amount to for its engine: equal for configurations that differ in name alone."""

import json
from collections.abc import Hashable, Mapping
from dataclasses import asdict, replace
from typing import Any

from serving.engines import Engine, External, Launch
from serving.errors import ServingError
from serving.topology import Member
from serving.twin.api import Setup
from tuner.config.groups.space import ENGINE
from tuner.config.trial import LIMITS, TrialConfig, fingerprint_of
from tuner.trial.simulate import PORT, read_flags, repeats_prefixes

# The quantities of `BaseEngine.meanings` as the emulator's settings name them.
MEANT: Mapping[str, str] = {
    "max_sequences": "max_sequences",
    "step_tokens": "step_tokens",
    "memory_fraction": "memory_fraction",
}


def behaviour(config: TrialConfig) -> Hashable:
    """Equal for two trials of a study whose engines can't differ, however they are measured.

    Emulated: the flags as the emulator reads them, without those that it ignores. Real: the command line and
    its variables, without values that name the engine's own default.
    """
    parts: dict[str, Any] = {
        "hardware": config.hardware.model_dump(mode="json"),
        "workload": config.workload.model_dump(mode="json"),
        "limits": {name: getattr(config.power, name) for name in LIMITS},
        "kind": config.engine.kind,
    }
    try:
        parts |= _emulated(config) if config.hardware.twin is not None else _real(config)
    except ServingError as error:
        parts |= {"fingerprint": config.fingerprint, "error": type(error).__name__}
    return json.dumps(parts, sort_keys=True, default=str)


def identity(config: TrialConfig) -> str:
    """The fingerprint of the configuration without values that name the engine's own default: equal for two
    spellings of one configuration. Of an emulated engine only defaults that it shares with the real one."""
    literal = config.hardware.twin is None
    if config.topology.prefill is not None:  # a knob of one role alone does nothing without it
        roles = [each.canonical(literal=literal) for each in _in_roles(config)]
        dumped: Any = [each.model_dump(mode="json") for each in roles]
        return fingerprint_of({**config.model_dump(mode="json"), ENGINE: dumped})
    engine = config.engine.canonical(literal=literal)
    if engine == config.engine:
        return config.fingerprint
    return fingerprint_of(
        {**config.model_dump(mode="json"), ENGINE: engine.model_dump(mode="json")}
    )


def _in_roles(config: TrialConfig) -> list[Engine]:
    """The settings of an engine of each role."""
    return [config.engine.as_member(Member(each.role, 0, each.layout)) for each in config.pools]


def default_quantities(config: TrialConfig) -> Mapping[str, float]:
    """Meaning of a knob → its value where the trial leaves it to the engine; empty where nothing says so."""
    if config.hardware.twin is None:
        return {}
    try:
        setup = read_flags(config, config.pools[-1].layout).setup
    except ServingError:
        return {}
    return {meaning: float(getattr(setup, name)) for meaning, name in MEANT.items()}


def _emulated(config: TrialConfig) -> dict[str, Any]:
    twin = config.hardware.twin
    assert twin is not None
    *others, own = config.pools
    setups = [read_flags(config, each.layout, each.role).setup for each in (own, *others)]
    return {"setups": [asdict(_effective(config, setup)) for setup in setups]}


def _effective(config: TrialConfig, setup: Setup) -> Setup:
    """The settings that the emulator uses, in one spelling."""
    return replace(
        setup,
        host="",
        port=0,
        served_model="",
        kv="fp8" if setup.kv.startswith("fp8") else "bf16",
        prefix_caching=setup.prefix_caching and repeats_prefixes(config.workload),
    )


def _real(config: TrialConfig) -> dict[str, Any]:
    engine, model, topology = config.engine, config.model, config.topology
    if isinstance(engine, External):
        return {"engine": engine.model_dump(mode="json")}
    found = []
    for pool, each in zip(config.pools, _in_roles(config), strict=True):
        plain = each.canonical()
        launch = Launch(
            plain.executable or plain.default_executable,
            model.source,
            model.name,
            "",
            PORT,
            pool.layout,
            model.context_tokens,
            tuple(map(str, range(pool.layout.gpus))),
            model.revision,
        )
        found.append({"argv": plain.command(launch), "variables": plain.environ(launch)})
    where = {
        "environment": engine.environment,
        "container": engine.container and engine.container.model_dump(mode="json"),
    }
    return {"engines": found, **where, "topology": topology.model_dump(mode="json")}
