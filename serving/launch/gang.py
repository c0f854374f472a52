"""`launched(spec)`: all engines of a trial and the router before them, for the length of a with block."""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate, pairwise
from pathlib import Path
from typing import TypeVar

from serving import probe
from serving.engines import External
from serving.engines.ready import CANARY_S, tail
from serving.errors import EngineExited, LaunchError, ServingError, StartTimeout
from serving.launch.launched import LaunchSpec, Running, one_launched
from serving.launch.located import router_executable
from serving.launch.routers import ROUTERS, Backend, Router, RouterStart, router_of
from serving.launch.shown import HOST
from serving.process.leftovers import end, marked, part_of
from serving.process.process import Identity, Supervised, supervised
from serving.topology import Member

ROUTER_READY_S = 120.0  # from the last engine's readiness to the router's first answer
ROUTER_GRACE_S = 3.0
POLL_S = 0.2
Item = TypeVar("Item")


@contextmanager
def launched(
    spec: LaunchSpec,
    *,
    devices: tuple[str, ...] = (),
    cores: tuple[int, ...] = (),
    host: str = HOST,
) -> Iterator[Running]:
    """Starts the engines of `spec.topology` on `devices` or pinned to `cores`, and stops them at the end of the
    block; several with the router before them.

    `host`: the address on which what answers listens. Raises ServingError: its class says how it failed, its
    evidence is the line that says why.
    """
    members = spec.topology.members
    if isinstance(spec.engine, External) or not spec.topology.routed:
        with one_launched(spec, devices=devices, cores=cores, host=host) as running:
            yield running
        return
    spec.log.parent.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    specs = [_spec_of(spec, each) for each in members]
    with _logs_joined(spec.log, members, specs), ExitStack() as stack:
        started = _all_started(members, specs, devices, cores, stack)
        router = ROUTERS[router_of(spec.topology, spec.engine.framework)]
        front = stack.enter_context(_routed(spec, router, started, host))
        startup_s = time.monotonic() - began
        parts = tuple(each.running.endpoint for each in started)
        endpoint = replace(
            parts[0],
            base_url=front.url,
            generation=" ".join([front.process.generation, *(each.generation for each in parts)]),
            pid=front.process.engine,
            devices=tuple(device for each in parts for device in each.devices),
            startup_s=startup_s,
            argv=front.argv,
            environ=(),
            members=parts,
        )
        yield Running(
            endpoint,
            partial(_check, started, front, canary=False),
            partial(_check, started, front, canary=True),
        )


@dataclass(frozen=True, slots=True)
class _Started:
    """One engine that runs."""

    member: Member
    running: Running


@dataclass(frozen=True, slots=True)
class _Front:
    """The router that runs."""

    process: Supervised
    url: str
    argv: tuple[str, ...]
    model: str
    log: Path

    def check(self, *, canary: bool) -> None:
        """Raises ServingError unless it runs; `canary`: and gets an answer of one token."""
        if not self.process.alive():
            raise self.death()
        if canary and (why := _unanswered(self)):
            raise EngineExited(f"router: {why}", self.log, phase="under load")

    def death(self) -> ServingError:
        """Why it ended."""
        lines = tail(self.log).strip().splitlines()
        last = (lines or ["its log is empty"])[-1]
        code = self.process.exit_code()
        ended = (
            f"killed by signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        )
        return EngineExited(f"router: {ended}; last line: {last}", self.log)


def _all_started(
    members: Sequence[Member],
    specs: Sequence[LaunchSpec],
    devices: tuple[str, ...],
    cores: tuple[int, ...],
    stack: ExitStack,
) -> list[_Started]:
    """All at once. If one fails, the others are killed, as their devices wait for nothing, and it is raised."""
    shares = _shares(devices, [each.topology.gpus for each in members])
    own = _shares(cores, [each.topology.cpus for each in members] if cores else [0] * len(members))
    with ThreadPoolExecutor(len(members), thread_name_prefix="start") as pool:
        futures: list[Future[Running]] = [
            pool.submit(stack.enter_context, one_launched(each, devices=gpus, cores=cpus))
            for each, gpus, cpus in zip(specs, shares, own, strict=True)
        ]
        first = next((each for each in as_completed(futures) if each.exception()), None)
        while first is not None and wait(futures, POLL_S).not_done:
            for each, future in zip(specs, futures, strict=True):
                if not future.done():
                    end(partial(marked, each.mark))
    if first is not None:
        error = first.exception()
        assert error is not None, "chosen by it"
        member = members[futures.index(first)]
        raise _named(member, error) if isinstance(error, ServingError) else error
    return [_Started(m, f.result()) for m, f in zip(members, futures, strict=True)]


def _named(member: Member, error: ServingError) -> ServingError:
    evidence = f"{member.name}: {error.evidence}"
    return type(error)(evidence, error.log, phase=error.phase, remedy=error.remedy)


def _spec_of(spec: LaunchSpec, member: Member) -> LaunchSpec:
    try:
        engine = spec.engine.as_member(member)
    except ValueError as error:
        raise LaunchError(f"engine.{spec.engine.kind}.{error}") from error
    log = spec.log.with_name(f"{spec.log.stem}-{member.role or 'replica'}-{member.number}.log")
    return replace(
        spec,
        engine=engine,
        topology=member.topology,
        log=log,
        apart=False,
        mark=part_of(spec.mark, f"{member.role or 'engine'}-{member.number}"),
        role=member.role,
    )


def _shares(items: tuple[Item, ...], counts: Sequence[int]) -> list[tuple[Item, ...]]:
    """Consecutive items, so many for each."""
    return [items[a:b] for a, b in pairwise(accumulate(counts, initial=0))]


@contextmanager
def _routed(
    spec: LaunchSpec, router: Router, started: Sequence[_Started], host: str
) -> Iterator[_Front]:
    """The router, once it passes a request to the engines and brings the answer back."""
    port, metrics_port = probe.free_port(host), probe.free_port(host)
    backends = [
        Backend(
            each.member.role, each.running.endpoint.base_url, each.running.endpoint.meeting_port
        )
        for each in started
    ]
    start = RouterStart(
        router_executable(router.environment, router.command),
        host, port, metrics_port, backends, spec.log.parent, spec.topology.router_args,
        breaks=spec.engine.breaks_connections,
    )  # fmt: skip
    argv = tuple(router.arguments(start))
    with supervised(
        argv,
        {},
        spec.log,
        grace_s=ROUTER_GRACE_S,
        identity=Identity(part_of(spec.mark, "router")),
    ) as process:
        name = started[0].running.endpoint.model
        front = _Front(process, f"http://{host}:{port}", argv, name, spec.log)
        until = time.monotonic() + ROUTER_READY_S
        while why := _unanswered(front):
            if not process.alive():
                raise front.death()
            for each in started:
                _checked(each, canary=False)
            if time.monotonic() > until:
                raise StartTimeout(f"router: {why} after {ROUTER_READY_S:g} s", spec.log)
            time.sleep(POLL_S)
        yield front


def _unanswered(front: _Front) -> str:
    """Why a request of one token gets no answer through the router; empty if it does. Its health page answers
    for itself alone."""
    port = int(front.url.rpartition(":")[2])
    if not probe.listening(port, front.url.split("/")[2].rpartition(":")[0]):
        return "it does not listen"
    status = probe.completes(front.url, front.model, None, CANARY_S)
    return "" if status == 200 else f"a request of one token gets status {status}"


def _check(started: Sequence[_Started], front: _Front, *, canary: bool) -> None:
    for each in started:
        _checked(each, canary=canary)
    front.check(canary=canary)


def _checked(each: _Started, *, canary: bool) -> None:
    try:
        # A decode engine answers no request of its own in all frameworks: the router's goes through it.
        (each.running.canary if canary and not each.member.role else each.running.check)()
    except ServingError as error:
        raise _named(each.member, error) from error


@contextmanager
def _logs_joined(
    log: Path, members: Sequence[Member], specs: Sequence[LaunchSpec]
) -> Iterator[None]:
    """At the end the log has those of all engines, after the router's own."""
    try:
        yield
    finally:
        with log.open("a") as whole:
            for member, spec in zip(members, specs, strict=True):
                whole.write(f"\n==> {member.name} <==\n{tail(spec.log)}")
