"""Every other power source, on what its machine would return."""

import json
import ssl
import threading
import time
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from serving.telemetry import power_file
from serving.telemetry.base import Device, Reading, SourceError
from serving.telemetry.meter import power_metered
from serving.telemetry.sources import ipmi, rapl, recorded, redfish, twin
from serving.telemetry.sources.config import Ipmi, Recorded, Redfish
from serving.telemetry.sources.factory import Place, metered_source
from serving.telemetry.validity import SAMPLED, judged
from tests.loadgen.certificates import certificate
from tests.serving.telemetry.sources.recordings import to_jsonl


class Controller:
    """Answers every GET with `told`; keeps the last request's path and user."""

    def __init__(self, told: Any) -> None:
        self.told, self.status, self.path, self.user = told, 200, "", ""


@contextmanager
def controller(
    told: Any, context: ssl.SSLContext | None = None
) -> Iterator[tuple[Controller, str]]:
    state = Controller(told)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.path, given = self.path, self.headers.get("Authorization", "Basic ")
            state.user = b64decode(given.removeprefix("Basic ")).decode()
            body = json.dumps(state.told).encode()
            self.send_response(state.status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        scheme = "http"
        if context is not None:
            scheme = "https"
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield (
                state,
                f"{scheme}://127.0.0.1:{server.server_address[1]}/redfish/v1/Chassis/1/Power",
            )
        finally:
            server.shutdown()
            thread.join()


# Shapes of the resources as DMTF publishes them (DSP2046), shortened.
POWER = {"@odata.type": "#Power.v1_7_1.Power", "PowerControl": [{"PowerConsumedWatts": 8214}]}
ENVIRONMENT = {
    "@odata.type": "#EnvironmentMetrics.v1_3_0.EnvironmentMetrics",
    "PowerWatts": {"Reading": 374.5},
}
SENSOR = {"ReadingType": "Power", "Reading": 1211.5, "ReadingUnits": "W"}
CHASSIS = {
    "Members": [
        {"@odata.id": "/redfish/v1/Chassis/HGX_Chassis_0"},
        {"@odata.id": "/redfish/v1/Chassis/1"},
    ]
}


@pytest.mark.parametrize(
    ("told", "watts"), [(POWER, 8214.0), (ENVIRONMENT, 374.5), (SENSOR, 1211.5)]
)
def test_redfish_has_watts_in_three_resources(told: Any, watts: float) -> None:
    assert redfish.watts_of(told) == watts


def test_redfish_lists_the_members_of_a_collection() -> None:
    with pytest.raises(
        ValueError, match=r"a member's …/Power: .*HGX_Chassis_0, /redfish/v1/Chassis/1"
    ):
        redfish.watts_of(CHASSIS)
    with pytest.raises(ValueError, match="neither PowerConsumedWatts nor"):
        redfish.watts_of({"Reading": 21, "ReadingUnits": "Cel"})


def test_redfish_authenticates_with_the_node_s_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATTFRONT_REDFISH_USER", "watt")
    monkeypatch.setenv("WATTFRONT_REDFISH_PASSWORD", "fro:nt")
    with controller(POWER) as (bmc, url), redfish.opened(url, verify=True, ca_file=None) as source:
        [reading] = source.read()
        assert (reading.device, reading.power_w) == ("node", 8214.0)
        assert (bmc.path, bmc.user) == ("/redfish/v1/Chassis/1/Power", "watt:fro:nt")
        bmc.status = 401
        with pytest.raises(SourceError, match="401: wrong user or password"):
            source.read()
        bmc.status, bmc.told = 200, {"error": {}}
        with pytest.raises(SourceError, match="neither PowerConsumedWatts"):
            source.read()
    with pytest.raises(SourceError, match="does not answer"):
        source.read()


def test_redfish_verifies_certificates_as_configured(tmp_path: Path) -> None:
    trusted, context = certificate(tmp_path, "127.0.0.1")
    with controller(POWER, context) as (_, url):
        with (
            pytest.raises(SourceError, match="does not answer"),
            redfish.opened(url, verify=True, ca_file=None),
        ):
            pass
        for told in (
            {"verify": True, "ca_file": str(trusted)},
            {"verify": False, "ca_file": None},
        ):
            with redfish.opened(url, **told) as source:  # type: ignore[arg-type]
                assert source.read()[0].power_w == 8214.0


def test_invalid_redfish_settings_are_refused(tmp_path: Path) -> None:
    missing = str(tmp_path / "none.pem")
    with (
        pytest.raises(SourceError, match=r"none\.pem has no certificates"),
        redfish.opened("https://127.0.0.1/redfish", verify=True, ca_file=missing),
    ):
        pass
    for url in ("http://127.0.0.1:port/redfish", "ftp://127.0.0.1/redfish", "https://"):
        with pytest.raises(ValidationError, match="url"):
            Redfish(kind="redfish", url=url)
    for url in ("https://{host}-bmc/redfish", "https://[fe80::1]:8443/redfish", "http://bmc"):
        assert Redfish(kind="redfish", url=url).url == url
    with pytest.raises(ValueError, match="neither PowerConsumedWatts"):
        redfish.watts_of({"Members": [None, "/redfish/v1/Chassis/1"]})


def test_a_controller_that_stops_answering_leaves_its_reason_in_the_trace() -> None:
    with controller(POWER) as (bmc, url):
        with metered_source(Redfish(kind="redfish", url=url), Place()) as recorder:
            begin_ns = time.monotonic_ns()
            bmc.status = 503
            time.sleep(0.05)
        trace = recorder.trace()
    verdict = judged(trace, "node", begin_ns, time.monotonic_ns())
    assert verdict.joules is None
    assert any("answers 503" in reason for reason in verdict.reasons)


# As ipmitool 1.8.19 prints it.
DCMI = """
    Instantaneous power reading:                   6420 Watts
    Minimum during sampling period:                2011 Watts
    Average power reading over sample period:      6013 Watts
    Power reading state is:                   activated
"""


def ipmitool(folder: Path, script: str) -> tuple[str, ...]:
    path = folder / "ipmitool"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return (str(path), "dcmi", "power", "reading")


@pytest.mark.process
def test_ipmi_reads_instantaneous_watts(tmp_path: Path) -> None:
    command = ipmitool(tmp_path, f'[ "$1 $2 $3" = "dcmi power reading" ] && cat <<E\n{DCMI}\nE')
    with metered_source(Ipmi(kind="ipmi", command=command), Place()) as recorder:
        pass
    readings = recorder.readings
    assert [each.power_w for each in readings] == [6420.0] * len(readings)
    assert len(readings) > 1


@pytest.mark.process
@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo 'Could not open device at /dev/ipmi0' >&2; exit 1", "Could not open device.*root"),
        ("echo 'DCMI request failed'", "DCMI request failed"),
        ("exit 3", "exit code 3"),
    ],
)
def test_ipmi_without_watts_says_why(tmp_path: Path, script: str, said: str) -> None:
    with pytest.raises(SourceError, match=said), ipmi.opened(ipmitool(tmp_path, script)):
        pass
    with pytest.raises(SourceError, match="No such file"), ipmi.opened(("/no/ipmitool",)):
        pass


def powercap(root: Path, range_uj: int = 262_143_328_850) -> Path:
    """A processor with memory as Linux shows it, and what would be counted twice."""
    for zone, name in {
        "intel-rapl:0": "package-0",
        "intel-rapl:0:0": "core",
        "intel-rapl:0:1": "dram",
        "intel-rapl:1": "psys",
        "intel-rapl-mmio:0": "package-0",
    }.items():
        folder = root / zone
        folder.mkdir(parents=True)
        (folder / "name").write_text(name + "\n")
        (folder / "energy_uj").write_text("1000000\n")
        (folder / "max_energy_range_uj").write_text(f"{range_uj}\n")
    return root


def test_rapl_reads_packages_and_memory_once(tmp_path: Path) -> None:
    with rapl.opened(powercap(tmp_path)) as source:
        assert source.devices == (Device("package-0", "cpu"), Device("dram-0", "dram"))
        assert [each.energy_j for each in source.read()] == [1.0, 1.0]


def test_a_counter_that_wraps_around_continues(tmp_path: Path) -> None:
    counter = powercap(tmp_path, range_uj=9_999_999) / "intel-rapl:0" / "energy_uj"
    with rapl.opened(tmp_path) as source:
        seen = []
        for micro in (4_000_000, 9_000_000, 1_000_000, 8_000_000, 500_000):
            counter.write_text(f"{micro}\n")
            seen.append(source.read()[0].energy_j)
        counter.unlink()
        assert "No such file" in source.read()[0].fault
    assert seen == pytest.approx([4.0, 9.0, 11.0, 18.0, 20.5])


def test_rapl_that_is_absent_or_unreadable(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="has no processor packages"), rapl.opened(tmp_path):
        pass
    unreadable = powercap(tmp_path) / "intel-rapl:0" / "energy_uj"
    unreadable.unlink()
    unreadable.mkdir()
    with pytest.raises(SourceError, match="RAPL"), rapl.opened(tmp_path):
        pass


def recording(seconds: float = 1.0) -> recorded.Recording:
    rows = [
        Reading(
            round(7e9 + t * 1e9), "GPU-1", None, 100 + 10 * t, 700.0, foreign="", fault="no counter"
        )
        for t in (i / 20 * seconds for i in range(21))
    ]
    return "average", [Device("GPU-1", "gpu", "decode")], rows


def test_a_recording_is_loaded_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl.gz"
    path.write_bytes(to_jsonl(recording(), {"date": "2026-11-26", "gpu": "H100"}))
    kind, devices, readings = recorded.load(path)
    assert (kind, list(devices), list(readings)) == recording()


def test_a_recording_is_played_at_its_own_pace(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl.gz"
    path.write_bytes(to_jsonl(recording(), {}))
    with metered_source(Recorded(kind="recorded", path=path), Place()) as recorder:
        begin_ns = time.monotonic_ns()
        time.sleep(0.5)
        end_ns = time.monotonic_ns()  # between two readings: the later one is known already
    verdict = judged(recorder.trace(), "gpu", begin_ns, end_ns, 1)
    seconds = (end_ns - begin_ns) / 1e9
    assert verdict.reasons == ()
    assert verdict.method == SAMPLED
    assert verdict.by_role == {"decode": verdict.total_j}
    # 100 W and 10 W more each second, from the moment it was opened, which was before `begin_ns`.
    opened_ns = recorder.readings[0].at_ns
    middle_s = ((begin_ns + end_ns) / 2 - opened_ns) / 1e9
    assert verdict.total_j == pytest.approx((100 + 10 * middle_s) * seconds, rel=1e-6)


def test_readings_go_to_parquet_and_back(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl.gz"
    path.write_bytes(to_jsonl(recording(0.2), {}))
    with power_metered("recorded", frozenset({"gpu"}), recorded.opened(path)) as recorder:
        time.sleep(0.3)
    kept = tmp_path / power_file.FILE
    kept.write_bytes(power_file.to_bytes([recorder.trace()]))
    kind, devices, readings = recorded.load(kept)
    assert (kind, list(devices)) == recording()[:2]
    assert list(readings) == sorted(recorder.readings, key=lambda each: each.at_ns)


WHOLE = to_jsonl(recording(), {})


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", b"watts: many"),
        ("a.jsonl.gz", b"watts: many"),
        ("a.parquet", b"watts: many"),
        ("cut.jsonl.gz", WHOLE[:-20]),
        ("torn.jsonl.gz", WHOLE[:40] + bytes(8) + WHOLE[48:]),
    ],
)
def test_a_file_that_is_no_recording_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with (
        pytest.raises(SourceError, match=f"{name} is no recorded trace"),
        recorded.opened(tmp_path / name),
    ):
        pass


def test_readings_of_the_twin_have_its_own_time() -> None:
    told = {
        "t_s": 12.5,
        "devices": [{"uuid": "0", "power_w": 180.5, "energy_j": 9.0, "limit_w": 600.0}],
    }
    with controller(told) as (state, url):
        with twin.opened(url) as source:
            [reading] = source.read()
        assert state.path.endswith("/twin/power")
        assert reading == Reading(12_500_000_000, "0", 9.0, 180.5, 600.0)
        state.status = 500
        with pytest.raises(SourceError, match="does not report its power"):
            source.read()
