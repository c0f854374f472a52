"""Where a running Ray cluster is, whether it answers, and whether it asks for a token: known within seconds."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from tuner.study.capacity import ClusterError
from tuner.study.local_cluster import MODE, TOKEN, TOKEN_PATH, reread_authentication, variables

PROBE_S = 5.0
CHECK_ALIVE = "/ray.rpc.NodeInfoGcsService/CheckAlive"
START = "start one with `ray start --head`, or use cluster=local"
TOKEN_PLACES = f"{TOKEN}, {TOKEN_PATH} or ~/.ray/auth_token"


def address_of(configured: str | None) -> str:
    """HOST:PORT of the cluster, which listens. Raises ClusterError."""
    named = configured or os.environ.get("RAY_ADDRESS") or ""
    if "://" in named:
        raise ClusterError(
            f"cluster.address={named}: a study can't run over Ray Client or a job address: give HOST:PORT "
            "of the head node (port 6379 unless it was changed)"
        )
    address = _recorded() if named in ("", "auto") else named
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
        raise ClusterError(f"cluster.address={address}: expected HOST:PORT, such as 10.0.0.1:6379")
    try:
        socket.create_connection((host.strip("[]"), int(port)), PROBE_S).close()
    except OSError as error:
        why = error.strerror or f"no answer within {PROBE_S:.0f} s"
        raise ClusterError(f"no Ray cluster at {address}: {why}; {START}") from error
    return address


@contextmanager
def authenticated(address: str) -> Iterator[bool]:
    """Ray in this process sends the cluster's token in the block, or none where the cluster asks for none.

    Yields whether it asks for one.

    Whether there is a token says nothing of it: a local study of other versions may have made one. Raises
    ClusterError for a token that is missing or wrong, and for another version of Ray.
    """
    if os.environ.get(MODE, "token").lower() not in ("token", "disabled"):  # Kubernetes' own
        yield True
        return
    asks = asks_for_token(address)
    mode = "token" if asks else "disabled"
    with variables({MODE: mode}):
        reread_authentication()
        try:
            yield asks
        finally:
            reread_authentication()


def asks_for_token(address: str) -> bool:
    """Whether the cluster asks for a token; there is a right one here. Raises ClusterError otherwise."""
    import ray

    core: Any = ray._raylet  # without types
    if _answers(address, ""):
        return False
    loader = core.AuthenticationTokenLoader.instance()
    loader.reset_cache()
    if not loader.has_token(ignore_auth_mode=True):
        raise ClusterError(
            f"the Ray cluster at {address} asks for a token, and none is here: put it into {TOKEN_PLACES}"
        )
    if not _answers(address, loader.get_raw_token(ignore_auth_mode=True)):
        place = next((name for name in (TOKEN, TOKEN_PATH) if os.environ.get(name)), "")
        raise ClusterError(
            f"the Ray cluster at {address} refuses the token of {place or '~/.ray/auth_token'}: put its "
            f"own into {TOKEN_PLACES}"
        )
    return True


def _answers(address: str, token: str) -> bool:
    """Whether the cluster accepts the token. Raises ClusterError if it does not answer as a Ray cluster does.

    `ray.init` would wait for minutes, and fixes in this process whether it sends a token.
    """
    import ray
    from ray._private.grpc_utils import init_grpc_channel
    from ray.core.generated import gcs_service_pb2

    grpc: Any = import_module("grpc")  # without types
    replies: Any = gcs_service_pb2
    metadata = [("authorization", f"Bearer {token}")] if token else []
    channel = init_grpc_channel(address)
    try:
        reply = channel.unary_unary(CHECK_ALIVE)(b"", timeout=PROBE_S, metadata=metadata)
    except grpc.RpcError as error:
        code = error.code()
        if code == grpc.StatusCode.UNAUTHENTICATED:
            return False
        raise ClusterError(
            f"what listens at {address} does not answer as a Ray cluster ({code.name.lower()}); {START}"
        ) from error
    finally:
        channel.close()
    theirs = replies.CheckAliveReply.FromString(reply).ray_version
    if theirs and theirs != ray.__version__:
        raise ClusterError(
            f"the Ray cluster at {address} runs Ray {theirs}, and Wattfront here Ray {ray.__version__}: "
            "they must be the same"
        )
    return True


def _recorded() -> str:
    """The address that `ray start` recorded on this machine."""
    import ray

    services: Any = ray._private.services  # without types
    try:
        return str(services.canonicalize_bootstrap_address_or_die("auto"))
    except ConnectionError as error:
        raise ClusterError(
            f"no Ray cluster runs on this machine: {START}, or name one: cluster.address=HOST:6379"
        ) from error
