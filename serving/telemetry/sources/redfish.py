"""Watts of a whole machine, from its management controller over Redfish."""

import json
import os
import socket
import ssl
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from serving import probe
from serving.telemetry.base import Device, PowerKind, Reading, SourceError

EVERY_S, GAP_S, TIMEOUT_S = 1.0, 10.0, 5.0
NODE = Device("node", "node")
USER, PASSWORD = "WATTFRONT_REDFISH_USER", "WATTFRONT_REDFISH_PASSWORD"
CREDENTIALS = (USER, PASSWORD)


class RedfishSource:
    """Use `opened`. Controllers average over a second or more without documenting it: power is `average`."""

    kind = "redfish"
    power_kind: PowerKind = "average"
    every_s, gap_s = EVERY_S, GAP_S
    devices: tuple[Device, ...] = (NODE,)

    def __init__(self, url: str, headers: dict[str, str], trust: ssl.SSLContext) -> None:
        self._url, self._headers, self._trust = url, headers, trust

    def read(self) -> list[Reading]:
        """One reading of the node, at the middle of the request. Raises SourceError."""
        began_ns = time.monotonic_ns()
        answer = probe.get(self._url, TIMEOUT_S, headers=self._headers, trust=self._trust)
        at_ns = (began_ns + time.monotonic_ns()) // 2
        if answer is None:
            raise SourceError(f"Redfish: {self._url} does not answer")
        status, body = answer
        if status in (401, 403):
            raise SourceError(f"Redfish: {self._url} answers {status}: wrong user or password")
        if status != 200:
            raise SourceError(f"Redfish: {self._url} answers {status}")
        try:
            watts = watts_of(json.loads(body))
        except ValueError as error:
            raise SourceError(f"Redfish: {self._url}: {error}") from error
        return [Reading(at_ns, NODE.name, power_w=watts)]


def watts_of(resource: Any) -> float:
    """The watts in a Power (DSP0268), EnvironmentMetrics or Sensor resource. Raises ValueError."""
    if isinstance(resource, dict):
        control = resource.get("PowerControl")
        first = control[0] if isinstance(control, list) and control else {}
        metrics = resource.get("PowerWatts")
        reading = resource.get("Reading") if resource.get("ReadingUnits") == "W" else None
        watts = first.get("PowerConsumedWatts") if isinstance(first, dict) else None
        for each in (watts, metrics.get("Reading") if isinstance(metrics, dict) else None, reading):
            if isinstance(each, int | float):
                return float(each)
        members = resource.get("Members")
        paths = [each.get("@odata.id", "?") for each in members or () if isinstance(each, dict)]
        if paths:
            raise ValueError(
                f"it is a collection: give the URL of a member's …/Power: {', '.join(paths)}"
            )
    raise ValueError("it has neither PowerConsumedWatts nor PowerWatts nor a reading in W")


@contextmanager
def opened(url: str, *, verify: bool, ca_file: str | None) -> Iterator[RedfishSource]:
    """`{host}` in the URL stands for this node's name. Raises SourceError if there are no watts.

    User and password come from the node's environment: the configuration is stored and printed.
    """
    try:
        trust = ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise SourceError(f"Redfish: {ca_file} has no certificates: {error}") from error
    if not verify:
        trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
    user = os.environ.get(USER)
    password = os.environ.get(PASSWORD, "")
    headers = {} if user is None else _basic(user, password)
    source = RedfishSource(url.replace("{host}", socket.gethostname()), headers, trust)
    source.read()
    yield source


def _basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"}
