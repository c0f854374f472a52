"""Routers that spread requests over the engines of a trial: their command lines."""

import json
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from serving.topology import Role, RouterName, Topology

# Wattfront's own name of a framework → its router; the others have none of their own.
OWN: dict[str, RouterName] = {"vllm": "vllm", "sglang": "sglang", "trtllm": "trtllm"}


@dataclass(frozen=True, slots=True)
class Backend:
    """An engine behind a router. `meeting_port`: where SGLang's decode engines find a prefill engine."""

    role: Role
    url: str
    meeting_port: int | str | None = None


@dataclass(frozen=True, slots=True)
class Router:
    """`environment`: of `wattfront engines install`; `command`: the executable in it. `arguments`: its command
    line; a file of options, if it reads one, is written.
    """

    name: RouterName
    environment: str
    command: str
    arguments: Callable[["RouterStart"], list[str]]


@dataclass(frozen=True, slots=True)
class RouterStart:
    """One start of a router."""

    executable: str
    host: str
    port: int | str
    metrics_port: int | str
    backends: Sequence[Backend]
    folder: Path | None = None  # for a file of options; None: the command line is only shown
    more: Sequence[str] = ()
    breaks: bool = False  # whether the engines close connections that they said to keep

    @property
    def retries(self) -> list[str]:
        """None: a failure would look like a slow answer. One where a connection may be closed already."""
        if self.breaks:
            return ["--retry-max-retries", "2", "--retry-initial-backoff-ms", "1"]
        return ["--disable-retries"]

    def of(self, role: Role) -> list[Backend]:
        """The engines of a role."""
        return [each for each in self.backends if each.role == role]


def router_of(topology: Topology, framework: str) -> RouterName:
    """The router that a topology asks for, else the engine's own, else vLLM's."""
    return topology.router or OWN.get(framework, "vllm")


def _vllm(start: RouterStart) -> list[str]:
    prefill, decode = start.of("prefill"), start.of("decode")
    if prefill:
        engines = ["--vllm-pd-disaggregation"]
        engines += [word for each in prefill for word in ("--prefill", each.url)]
        engines += [word for each in decode for word in ("--decode", each.url)]
    else:
        engines = ["--worker-urls", *(each.url for each in start.backends)]
    return [
        start.executable, "--host", start.host, "--port", str(start.port), *engines,
        "--prometheus-host", start.host, "--prometheus-port", str(start.metrics_port),
        "--worker-startup-check-interval", "1", *start.retries, "--log-level", "warning",
        *start.more,
    ]  # fmt: skip


def _sglang(start: RouterStart) -> list[str]:
    prefill, decode = start.of("prefill"), start.of("decode")
    if prefill:
        engines = ["--pd-disaggregation"]
        for each in prefill:
            engines += ["--prefill", each.url, str(each.meeting_port)]
        engines += [word for each in decode for word in ("--decode", each.url)]
    else:
        engines = ["--worker-urls", *(each.url for each in start.backends)]
    return [
        start.executable, "-m", "sglang_router.launch_router", "--host", start.host,
        "--port", str(start.port), *engines, "--prometheus-host", start.host,
        "--prometheus-port", str(start.metrics_port), *start.retries, *start.more,
    ]  # fmt: skip


def _trtllm(start: RouterStart) -> list[str]:
    """Its proxy, by a file; it has no other form."""
    parts = (("context_servers", start.of("prefill")), ("generation_servers", start.of("decode")))
    servers = {
        name: {"num_instances": len(each), "urls": [b.url.removeprefix("http://") for b in each]}
        for name, each in parts
    }
    options = json.dumps({"hostname": start.host, "port": start.port, **servers})
    file = f"<(echo {shlex.quote(options)})"
    if start.folder is not None:
        path = start.folder / "disaggregated.yaml"
        path.write_text(options)
        file = str(path)
    return [start.executable, "disaggregated", "-c", file, *start.more]


ROUTERS = {
    router.name: router
    for router in (
        Router("vllm", "vllm-router", "vllm-router", _vllm),
        Router("sglang", "sglang-router", "python", _sglang),
        Router("trtllm", "tensorrt-llm", "trtllm-serve", _trtllm),
    )
}
