"""What is checked before a device is taken: configuration, libraries, engines, models, placement."""

from functools import partial
from importlib.util import find_spec

from serving.engines import External
from serving.errors import LaunchError
from serving.install import models
from serving.launch import executable
from tuner.cli.exit_codes import Missing
from tuner.config.errors import ConfigError
from tuner.config.load import files_of
from tuner.config.study import StudyConfig
from tuner.study.capacity import Capacity, ClusterError
from tuner.study.estimate import known_trials
from tuner.study.ray_cluster import local_capacity, missing_files


def check_one_engine(config: StudyConfig) -> None:
    """Raises ConfigError for pools of engines, which exist on the virtual clock only."""
    pooled = any(path.startswith("hardware.twin.pools") for path in config.space.parameters)
    if pooled or (config.hardware.twin is not None and config.hardware.twin.pools is not None):
        raise ConfigError(
            "hardware.twin.pools: several engines together run on the virtual clock only: use "
            "`wattfront simulate` with the same arguments"
        )


def check_search(config: StudyConfig) -> None:
    """Raises Missing before the first trial if the sampler's library is not installed."""
    if config.search.kind == "gp" and find_spec("torch") is None:
        raise Missing("search=gp needs torch: pip install 'wattfront[gp]'; search=curve needs none")


def check_machine(config: StudyConfig) -> None:
    """Raises Missing with every engine and model that this machine lacks, before a device is taken."""
    if config.cluster.kind != "local":
        return
    check_placement(config, local_capacity(config.cluster))
    missing = dict[str, None]()
    for engine in config.engine.values():
        if isinstance(engine, External) or config.hardware.twin is not None:
            continue
        for needed in (
            partial(executable, engine),
            partial(models.locate, config.model.source, engine.model_format),
        ):
            try:
                needed()
            except LaunchError as error:
                missing[error.evidence] = None
    if missing:
        raise Missing("\n".join(missing))


def check_nodes(config: StudyConfig) -> None:
    """Raises Missing if a node of a cluster lacks a file that the load generators read."""
    files = files_of(config.workload)
    if not files or config.cluster.kind == "local":
        return
    if missing := missing_files(list(files.values()), apart=config.workload.placement == "apart"):
        raise Missing(
            f"{', '.join(files)}: there is no {'; no '.join(missing)}: load is generated on the "
            "cluster's nodes, so copy it there under the same path"
        )


def check_placement(config: StudyConfig, capacity: Capacity) -> None:
    """Raises Missing if a known trial does not fit any node, or its load generators no other node."""
    workload = config.workload
    for proposal in known_trials(config):
        try:
            capacity.check(proposal.config.topology)
            if workload.placement == "apart":
                capacity.check_apart(proposal.config.topology, workload.shards)
        except ClusterError as error:
            raise Missing(f"trial {proposal.number}: {error}") from error
