"""What of a study others reach is said: clusters without a token, engines without an API key."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
import ray
from ray.core.generated.gcs_service_pb2 import CheckAliveReply

from tuner.config.load import load
from tuner.study.joining.address import CHECK_ALIVE
from tuner.study.joining.exposure import cluster_check, open_engines

TOKEN = "b" * 64
GPUS = ["experiment=laptop", "space=none", "hardware=h200", "topology=tp1"]
APART = [*GPUS, "workload.placement=apart", "cluster=existing"]


class Gcs(grpc.GenericRpcHandler):
    """The head of a cluster as far as it is asked whether it is alive."""

    def __init__(self, token: str) -> None:
        self._token = token

    def service(self, details: Any) -> Any:
        if details.method != CHECK_ALIVE:
            return None
        return grpc.unary_unary_rpc_method_handler(self._alive)

    def _alive(self, request: bytes, context: Any) -> bytes:
        sent = dict(context.invocation_metadata()).get("authorization", "")
        if self._token and sent != f"Bearer {self._token}":
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "no token")
        reply: bytes = CheckAliveReply(ray_version=ray.__version__).SerializeToString()
        return reply


@contextmanager
def cluster(token: str = "") -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(1), handlers=[Gcs(token)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def test_a_cluster_without_a_token_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    with cluster() as address:
        monkeypatch.setenv("RAY_ADDRESS", address)
        check = cluster_check()
    assert (check.state, check.found) == (
        "warn",
        f"the Ray cluster at {address} asks for no token: anybody who reaches it can run code on its nodes",
    )
    assert "RAY_AUTH_MODE=token" in check.fix


def test_a_cluster_with_a_token_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    with cluster(TOKEN) as address:
        monkeypatch.setenv("RAY_ADDRESS", address)
        check = cluster_check()
    assert (check.state, check.found) == ("ok", f"{address} asks for a token, which is here")


def test_without_a_cluster_there_is_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    check = cluster_check()
    assert check.state == "warn"
    assert check.found.startswith("no Ray cluster at 127.0.0.1:1: Connection refused")


def test_engines_without_a_key_are_named_where_others_reach_them() -> None:
    (line,) = open_engines(load(["engine=trtllm", *APART], None))
    assert line == (
        "trtllm has no API key, and workload.placement=apart needs its node's address: while a trial runs, "
        "anybody who reaches its node can use the model"
    )
    assert open_engines(load(["engine=vllm", *APART], None)) == []
    assert open_engines(load(["engine=trtllm", *GPUS], None)) == []


def test_nim_is_open_wherever_its_load_is() -> None:
    (line,) = open_engines(load(["engine=nim", *GPUS], None))
    assert line.startswith("NIM listens on all interfaces: while a trial runs, anybody")
