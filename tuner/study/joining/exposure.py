"""Which ports of a study are open to others: reported before it starts, and by `wattfront doctor`."""

import os

from serving.engines import External
from serving.install.doctor import Check
from tuner.config.study import StudyConfig
from tuner.study.capacity import ClusterError
from tuner.study.joining.address import address_of, asks_for_token

NAME = "Ray cluster"
FIX = "start its nodes with RAY_AUTH_MODE=token, and the token of `ray get-auth-token --generate`"


def open_cluster(address: str) -> str:
    """Of a cluster that asks for no token, in one line."""
    return f"the Ray cluster at {address} asks for no token: anybody who reaches it can run code on its nodes"


def cluster_check() -> Check:
    """Whether the cluster that a study would join is open to others."""
    try:
        address = address_of(None)
    except ClusterError as error:
        if os.environ.get("RAY_ADDRESS"):
            return Check(NAME, "warn", str(error))
        return Check(NAME, "ok", "none runs on this machine: a study starts its own")
    try:
        if asks_for_token(address):
            return Check(NAME, "ok", f"{address} asks for a token, which is here")
    except ClusterError as error:
        return Check(NAME, "ok", str(error))
    return Check(NAME, "warn", open_cluster(address), FIX)


def open_engines(config: StudyConfig) -> list[str]:
    """A line for each engine whose port is open to whoever reaches its node while a trial runs."""
    if config.hardware.twin is not None:
        return []
    reached = config.workload.placement == "apart" and config.cluster.kind == "existing"
    lines = []
    for engine in config.engine.values():
        if isinstance(engine, External):
            continue
        if engine.listens_everywhere:
            why = engine.listens_everywhere
        elif reached and not engine.has_api_key:
            why = f"{engine.kind} has no API key, and workload.placement=apart needs its node's address"
        else:
            continue
        lines.append(f"{why}: while a trial runs, anybody who reaches its node can use the model")
    return lines
