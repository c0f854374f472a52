"""What a study's machines get before its first trial."""

import os
from collections.abc import Callable

from rich.console import Console

from serving.engines import Engine, External
from serving.install.hub.client import FetchError
from serving.install.hub.needed import fetch_models
from tuner.cli.exit_codes import Missing
from tuner.cli.machine.shown import progress
from tuner.config.checks.memory import forget_models
from tuner.config.groups.space import ENGINE, values_to_try
from tuner.config.study import StudyConfig
from tuner.config.validate import validate
from tuner.study.joining.nodes import alive_nodes, nodes_for
from tuner.study.joining.prepare import prepare_nodes


def prepare_machine(config: StudyConfig, console: Console) -> None:
    """Fetches the models of a study on this machine. Raises Missing, and ConfigError where they can't fit."""
    if config.cluster.kind != "local" or not _prepared(config):
        return
    try:
        with progress(console, f"fetching {config.model.source}") as report:
            engines = engines_tried(config)
            if fetch_models(engines, config.model, os.environ, report, weights=False):
                # With their config.json it shows whether they fit, before hours of download.
                forget_models()
                validate(config)
                fetch_models(engines, config.model, os.environ, report)
    except FetchError as error:
        raise Missing(
            f"{error.evidence} (cluster.prepare=false leaves it to the engines)"
        ) from error


def prepare_cluster(config: StudyConfig, say: Callable[[str], None]) -> None:
    """Installs and fetches what the nodes of a cluster lack. Raises ClusterError, with the node."""
    if config.cluster.kind == "local" or not _prepared(config):
        return
    nodes = nodes_for(alive_nodes(), cpus=not config.reserves.gpus)
    prepare_nodes(
        engines_tried(config), config.model, nodes, cpus=not config.reserves.gpus, say=say
    )


def _prepared(config: StudyConfig) -> bool:
    return config.cluster.prepare and config.hardware.twin is None and bool(engines_tried(config))


def engines_tried(config: StudyConfig) -> list[Engine]:
    """The engines of a study that nodes need: as configured, and with each version that its space tries."""
    tried = list[Engine]()
    for name, engine in config.engine.items():
        if isinstance(engine, External):
            continue
        parameter = config.space.parameters.get(f"{ENGINE}.{name}.version")
        values = [] if parameter is None else values_to_try(parameter)
        versions = [engine.model_copy(update={"version": str(each)}) for each in values]
        tried += versions or [engine]
    return tried
