"""What is checked before a device is taken: configuration, libraries, engines, models, placement."""

import resource
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from loadgen.errors import BadWorkload
from loadgen.prompts.build import judged
from loadgen.workload.workload import lockstep
from serving.engines.access import check_passed
from serving.errors import ContainerFailed, LaunchError
from serving.install import models
from serving.launch import check_container, executable, version_here
from serving.process.locks import private_folder
from tuner.cli.exit_codes import Missing
from tuner.cli.machine.prepare import engines_tried
from tuner.config.checks.numerics import answers
from tuner.config.errors import ConfigError, suggestion
from tuner.config.load import files_of
from tuner.config.study import StudyConfig
from tuner.results.ledger import Ledger
from tuner.search.factory import SearchSetup
from tuner.study.capacity import Capacity, ClusterError
from tuner.study.joining.nodes import (
    alive_nodes,
    engine_versions,
    missing_engines,
    missing_files,
    nodes_for,
)
from tuner.study.local_cluster import local_capacity
from tuner.study.planning.estimate import known_trials, named_trials
from tuner.study.planning.too_large import too_large
from tuner.trial.flag_check import judge_flags
from tuner.trial.quality.task_run import executable as lm_eval

OPEN_FILES = 1024  # that Ray's processes need, each
# Schemes that MLflow takes → the module of a database's usual driver.
TRACKING = {
    "http": "",
    "https": "",
    "file": "",
    "databricks": "",
    "sqlite": "",
    "postgresql": "psycopg2",
    "mysql": "MySQLdb",
    "mssql": "pyodbc",
}
DRIVERS = {"mysql+mysqldb": "MySQLdb", "mysql+mysqlconnector": "mysql"}


SEVERAL = ("hardware.twin.pools", "topology.replicas", "topology.prefill", "topology.router")


def check_one_engine(config: StudyConfig) -> None:
    """Raises ConfigError for several emulated engines together, which exist on the virtual clock only."""
    twin = config.hardware.twin
    if twin is None:
        return
    where = next(
        (path for path in config.space.parameters if path.startswith(SEVERAL)),
        "hardware.twin.pools" if twin.pools is not None else "",
    )
    if not where and config.topology.routed:
        split, several = config.topology.prefill is not None, config.topology.replicas > 1
        where = "topology." + ("prefill" if split else "replicas" if several else "router")
    if where:
        raise ConfigError(
            f"{where}: several emulated engines, or a router before one, exist on the virtual clock only: "
            "use `wattfront simulate` with the same arguments"
        )


def check_open_files() -> None:
    """Raises Missing where this process may open too few files for Ray, which would wait without a word."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= OPEN_FILES:
        return
    if hard < OPEN_FILES:
        raise Missing(
            f"this process may open {hard} files, and Ray needs {OPEN_FILES}: raise the limit "
            "(`ulimit -n 65536`, or LimitNOFILE= of the service)"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, hard))


def check_search(config: StudyConfig) -> None:
    """Raises Missing before the first trial if the sampler's library is not installed."""
    if config.search.kind == "gp" and find_spec("torch") is None:
        raise Missing("search=gp needs torch: pip install 'wattfront[gp]'; search=curve needs none")


def check_tracking(config: StudyConfig) -> None:
    """Raises ConfigError, or Missing for a driver, where the results of a study can't be mirrored."""
    uri = config.tracking.uri
    if config.tracking.kind == "none":
        return
    if uri is None:
        folder = Path(config.output_dir).absolute()
        if odd := sorted(set("?#%") & set(str(folder))):
            raise ConfigError(
                f"output_dir: {folder} holds {' '.join(odd)}, which a database's URI can't: use another "
                "folder, tracking.uri=…, or tracking=none"
            )
        return
    scheme = uri.partition("://")[0]
    dialect, _, driver = scheme.partition("+")
    named = driver.isidentifier() or not driver
    if uri != "databricks" and ("://" not in uri or dialect not in TRACKING or not named):
        known = suggestion(dialect, TRACKING, "schemes")
        raise ConfigError(
            f"tracking.uri: {scheme if '://' in uri else uri}: unknown scheme; {known}"
        )
    if scheme in ("http", "https"):
        _check_address(uri)
    module = DRIVERS.get(scheme, driver or TRACKING[dialect])
    if module and find_spec(module) is None:
        raise Missing(
            f"tracking.uri: {scheme}:// needs the driver {module}, which is not installed in this "
            "environment: pip install it, or name another (DIALECT+DRIVER://…)"
        )


def _check_address(uri: str) -> None:
    try:
        parts = urlsplit(uri)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigError(f"tracking.uri: {error}") from error
    if not host or port == 0:
        raise ConfigError("tracking.uri: expected http://HOST:PORT")


def check_data(config: StudyConfig) -> list[str]:
    """Reads the data sets of the load, before a device is taken. Returns a line for each used in part.

    One more for a load whose users fall into step. Raises ConfigError with file and line.
    """
    why = lockstep(config.workload)
    length = f"{{kind: range_ratio, tokens: {config.workload.output_tokens}, ratio: 0.8}}"
    warned = [f"workload: {why}; workload.output_tokens='{length}' spreads them"] if why else []
    try:
        return [*judged(config.workload), *warned]
    except BadWorkload as error:
        raise ConfigError(f"workload: {error}") from error


def check_machine(config: StudyConfig) -> None:
    """Raises Missing with everything that this machine lacks for the study, before a device is taken."""
    if config.cluster.kind != "local":
        return
    check_placement(config, local_capacity(config.cluster))
    needs: list[Callable[[], object]] = [private_folder]
    for engine in engines_tried(config):
        needs.append(partial(check_passed, engine.kind, engine.env_passthrough))
        if config.hardware.twin is None:
            needs.append(partial(executable, engine))
            needs.append(partial(check_container, engine))
            needs.append(partial(models.locate, config.model.source, engine.model_format))
    if config.quality.tasks and answers(config):
        needs.append(partial(lm_eval, config.quality.lm_eval))
    missing = dict[str, None]()
    for needed in needs:
        try:
            needed()
        except (LaunchError, ContainerFailed) as error:
            missing[error.evidence] = None
    if missing:
        raise Missing("\n".join(missing))


def check_flags(config: StudyConfig) -> list[str]:
    """Lines about flags of the engines: as installed here, or on a cluster as configured.

    Raises ConfigError for flags that an engine would refuse.
    """
    here = {
        name: version_here(engine)
        for name, engine in config.engine.items()
        if config.hardware.twin is None and (config.cluster.kind == "local" or engine.container)
    }
    verdict = judge_flags(config, here)
    if verdict.errors:
        raise ConfigError("\n".join(verdict.errors))
    return list(verdict.warnings)


def check_nodes(config: StudyConfig) -> None:
    """Raises Missing if a node of a cluster lacks an engine, a model, or a file of the load generators."""
    if config.cluster.kind == "local":
        return
    nodes, files = alive_nodes(), files_of(config.workload)
    able = nodes_for(nodes, cpus=not config.reserves.gpus)
    engines = engines_tried(config)
    if config.hardware.twin is None and (missing := missing_engines(engines, config.model, able)):
        raise Missing("\n".join(missing))
    if config.hardware.twin is None:
        _check_flags_of(config, able)
    generate = nodes if config.workload.placement == "apart" else able
    if files and (missing := missing_files(list(files.values()), generate)):
        raise Missing(
            f"{', '.join(files)}: there is no {'; no '.join(missing)}: load is generated on the "
            "cluster's nodes, so copy it there under the same path"
        )


def _check_flags_of(config: StudyConfig, nodes: Sequence[Mapping[str, Any]]) -> None:
    """Raises ConfigError for flags that the version of an engine on one of the nodes would refuse."""
    hosts = dict[tuple[tuple[str, str | None], ...], str]()
    for host, versions in engine_versions(config.engine, nodes).items():
        hosts.setdefault(tuple(sorted(versions.items())), host)
    lines = [
        f"node {host}: {line}"
        for versions, host in hosts.items()
        for line in judge_flags(config, dict(versions)).errors
    ]
    if lines:
        raise ConfigError("\n".join(lines))


def check_placement(config: StudyConfig, capacity: Capacity) -> None:
    """Raises Missing if a trial that was asked for by name does not fit any node, or the load of one that is
    known no other node. What a search chooses itself is limited to layouts that fit: see `SearchSetup`."""
    workload = config.workload
    setup = SearchSetup(config, capacity.largest)
    for proposal in [*named_trials(config), *known_trials(config, setup)]:
        try:
            capacity.check(proposal.config.reserves)
            if workload.placement == "apart":
                capacity.check_apart(proposal.config.reserves, workload.shards)
        except ClusterError as error:
            raise Missing(f"trial {proposal.number}: {error}") from error


def limit_layouts(config: StudyConfig, ledger: Ledger, capacity: Capacity) -> str:
    """A new study whose space has layouts that fit no node is limited to those that do. Returns what to say."""
    space = SearchSetup(config, capacity.largest).space
    excluded = space.excluded()
    if excluded and not ledger.entries() and not ledger.limits:
        ledger.limited(0, *capacity.largest)
    return "\n".join(filter(None, (excluded, too_large(config, space))))
