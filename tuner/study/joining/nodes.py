"""Asks every node of a cluster: which versions run there, and which files, engines and models it lacks."""

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from serving.engines import Engine
from serving.engines.access import check_passed
from serving.errors import ContainerFailed, LaunchError
from serving.install import models
from serving.launch import check_container, executable, version_here
from serving.topology import Model
from tuner.study.capacity import ClusterError

NODE = "ray.io/node-id"  # the label that Ray gives to each node
ANSWER_S = 120.0  # for a worker to start on every node, and to unpack what was sent to it
Answer = TypeVar("Answer")
PACKAGES = ("loadgen", "serving", "tuner")
EXCLUDED = ["**/__pycache__", "**/*.pyc"]


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What runs on a node. `code`: a digest of Wattfront's; empty: it is not installed there."""

    python: str
    ray: str
    wattfront: str
    code: str


def alive_nodes() -> list[dict[str, Any]]:
    """The live nodes, as Ray describes them."""
    import ray

    every: Any = ray.nodes  # untyped
    return [node for node in every() if node["Alive"]]


def nodes_for(nodes: Sequence[Mapping[str, Any]], *, cpus: bool) -> list[Mapping[str, Any]]:
    """Those with devices for engines: with GPUs, or with CPU cores."""
    kind = "CPU" if cpus else "GPU"
    return [node for node in nodes if node["Resources"].get(kind, 0)]


def ask_each(
    ask: Callable[..., Answer], *arguments: Any, nodes: Sequence[Mapping[str, Any]]
) -> dict[str, Answer]:
    """Runs a function on each of these nodes, beside all other work. Host → what it returned.

    Raises ClusterError for nodes that do not answer.
    """
    import ray
    from ray.exceptions import GetTimeoutError, RayError

    remote: Any = ray.remote  # typed for decorators alone
    task = remote(num_cpus=0, max_retries=1)(ask)
    asked = {
        node["NodeID"]: task.options(label_selector={NODE: node["NodeID"]}).remote(*arguments)
        for node in nodes
    }
    ray.wait(list(asked.values()), num_returns=len(asked), timeout=ANSWER_S)
    answers: dict[str, Answer] = {}
    for node in nodes:
        name = node["NodeManagerHostname"]
        try:
            answers[name] = ray.get(asked[node["NodeID"]], timeout=0)
        except GetTimeoutError as error:
            raise ClusterError(
                f"node {name} ({node['NodeManagerAddress']}) started no worker within {ANSWER_S:.0f} s: "
                "remove it from the cluster, or free it"
            ) from error
        except RayError as error:
            line = next((each for each in reversed(str(error).splitlines()) if each.strip()), "")
            raise ClusterError(
                f"node {name} ({node['NodeManagerAddress']}): {line.strip()}"
            ) from error
    return answers


def check_versions(nodes: Sequence[Mapping[str, Any]]) -> list[str]:
    """The hosts that need this machine's code. Raises ClusterError for another Python or Ray."""

    def look(packages: tuple[str, ...]) -> tuple[str, str, str, str]:
        # All that it needs is inside: the node may have no module of ours, or another.
        import hashlib
        import platform
        from importlib.metadata import PackageNotFoundError, version
        from importlib.util import find_spec
        from pathlib import Path

        import ray

        try:
            ours = version("wattfront")
        except PackageNotFoundError:
            ours = ""
        python = ".".join(platform.python_version_tuple()[:2])
        digest = hashlib.sha256()
        for package in packages:
            spec = find_spec(package)
            if spec is None or spec.origin is None:
                return python, ray.__version__, ours, ""
            folder = Path(spec.origin).parent
            for path in sorted(folder.rglob("*.py")):
                digest.update(str(path.relative_to(folder)).encode() + path.read_bytes())
        return python, ray.__version__, ours, digest.hexdigest()

    here = NodeFacts(*look(PACKAGES))
    lacking = []
    for host, answer in ask_each(look, PACKAGES, nodes=nodes).items():
        there = NodeFacts(*answer)
        for what, theirs, ours in (
            ("Python", there.python, here.python),
            ("Ray", there.ray, here.ray),
        ):
            if theirs != ours:
                raise ClusterError(
                    f"node {host} runs {what} {theirs}, and this machine {what} {ours}: they must be the same"
                )
        if there.code != here.code:
            lacking.append(host)
    return lacking


def shipped() -> dict[str, Any]:
    """The runtime environment that brings our own packages to the nodes, and no other file."""
    import importlib

    folders = [Path(str(importlib.import_module(name).__file__)).parent for name in PACKAGES]
    return {"py_modules": [str(folder) for folder in folders], "excludes": EXCLUDED}


def check_imports(nodes: Sequence[Mapping[str, Any]]) -> None:
    """Raises ClusterError for a node that lacks a library which trials need."""

    def look() -> str:
        try:
            import tuner.study.slots.slot  # noqa: F401
        except ImportError as error:
            return str(error)
        return ""

    for host, missing in ask_each(look, nodes=nodes).items():
        if missing:
            raise ClusterError(
                f"node {host}: {missing}: install there what Wattfront needs (pip install wattfront), "
                "or use an image that has it"
            )


def missing_files(paths: Sequence[Path], nodes: Sequence[Mapping[str, Any]]) -> list[str]:
    """ "PATH on HOST" for each file that a node lacks."""

    def look(files: list[str]) -> list[str]:
        host = socket.gethostname()
        return [f"{path} on {host}" for path in files if not os.path.isfile(path)]  # noqa: PTH113

    answers = ask_each(look, [str(path) for path in paths], nodes=nodes)
    return sorted({line for lines in answers.values() for line in lines})


def missing_engines(
    engines: Sequence[Engine], model: Model, nodes: Sequence[Mapping[str, Any]]
) -> list[str]:
    """ "node HOST: …" for each engine and model that a node lacks."""

    def look() -> list[str]:
        lacking = dict[str, None]()
        if model.source.startswith("/") and not os.path.exists(model.source):  # noqa: PTH110
            lacking[f"there is no model at {model.source}"] = None
        for engine in engines:
            for needed, arguments in (
                (check_passed, (engine.kind, engine.env_passthrough)),
                (executable, (engine,)),
                (check_container, (engine,)),
                (models.locate, (model.source, engine.model_format)),
            ):
                try:
                    needed(*arguments)
                except (LaunchError, ContainerFailed) as error:
                    lacking[error.evidence] = None
        return list(lacking)

    answers = ask_each(look, nodes=nodes)
    return [f"node {host}: {line}" for host, lines in answers.items() for line in lines]


def engine_versions(
    engines: Mapping[str, Engine], nodes: Sequence[Mapping[str, Any]]
) -> dict[str, dict[str, str | None]]:
    """Host → engine → the version that the node has; None: unknown."""

    def look() -> dict[str, str | None]:
        return {name: version_here(engine) for name, engine in engines.items()}

    return ask_each(look, nodes=nodes)
