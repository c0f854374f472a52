"""The twin as a server: OpenAI's API over the emulation, and what a monitor may ask.

Every output has the length that `max_tokens` asks for, with or without `ignore_eos`: the twin knows
no words, so none of them ends a text. Whatever it tells of time and energy is modelled.
"""

import asyncio
import gc
import os
import resource
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from typing import cast

import msgspec

from serving.twin.config import TwinConfig
from serving.twin.engine.assemble import Assembled
from serving.twin.engine.engine import DeviceMemoryExhausted
from serving.twin.frameworks.faces import Face, Facts
from serving.twin.server.answers import Answer
from serving.twin.server.asks import BadRequest, read_ask
from serving.twin.server.http import Connection, Incoming
from serving.twin.server.wall import Wall, clock_s

BACKLOG = 4096
_encode = msgspec.json.encode


def serve(assembled: Assembled, face: Face, facts: Facts, config: TwinConfig) -> int:
    """Runs until SIGTERM or SIGINT; returns the exit code. Raises OSError where it can't listen."""
    return asyncio.Runner(loop_factory=_loop).run(_serve(assembled, face, facts, config))


def _loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return cast(asyncio.AbstractEventLoop, uvloop.new_event_loop())


async def _serve(assembled: Assembled, face: Face, facts: Facts, config: TwinConfig) -> int:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, stop.set)
    began_s = clock_s()
    moments = [*face.log(facts), (1.0, "")]
    for share, line in moments:
        rest_s = began_s + share * facts.start_s - clock_s()
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), max(rest_s, 0.0)) if rest_s > 0 else None
        if stop.is_set():
            return 0
        if line:
            say(line)
    _raise_limits()
    deaths: list[DeviceMemoryExhausted] = []

    def died(error: DeviceMemoryExhausted) -> None:
        say(face.died_under_load(error))
        deaths.append(error)
        stop.set()

    server = Server(assembled, face, facts, config, loop, died)
    listening = await loop.create_server(
        server.connection, facts.setup.host, facts.setup.port, backlog=BACKLOG
    )
    for line in face.ready(facts):
        say(line)
    gc.collect()
    gc.freeze()
    await stop.wait()
    listening.close()
    server.wall.close()
    return 1 if deaths else 0


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201  (its log is its standard error)


def _raise_limits() -> None:
    """A file a connection."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


class Server:
    def __init__(
        self,
        assembled: Assembled,
        face: Face,
        facts: Facts,
        config: TwinConfig,
        loop: asyncio.AbstractEventLoop,
        died: Callable[[DeviceMemoryExhausted], None],
    ) -> None:
        self._assembled, self._face, self._facts, self._config = assembled, face, facts, config
        self.wall = Wall(assembled.emulation, loop, self._refuse, died)
        self._numbers = count()
        setup = facts.setup
        blocks = assembled.emulation.engines[0].ranks[0].blocks
        self._hashed = blocks.block_tokens if blocks.prefix_caching else 0
        entry = {"id": setup.served_model, "object": "model", "owned_by": setup.framework}
        model = {**entry, "root": setup.model, "max_model_len": setup.context_tokens}
        self._models = _encode({"object": "list", "data": [model]})

    def connection(self) -> Connection:
        return Connection(self._handle, self._complain, self._lost)

    def _handle(self, connection: Connection, incoming: Incoming) -> None:
        path = incoming.path
        if path in ("/v1/completions", "/v1/chat/completions"):
            if incoming.method != "POST":
                connection.reply(b'{"detail":"Method Not Allowed"}', status=405)
                return
            try:
                self._ask(connection, incoming, chat=path.startswith("/v1/chat"))
            except BadRequest as bad:
                body = self._face.error(bad.status, str(bad), bad.kind)
                connection.reply(body, status=bad.status)
        elif path in self._face.health:
            connection.reply(b"", "text/plain")
        elif path == "/v1/models":
            connection.reply(self._models)
        elif path.startswith("/twin"):
            self._twin(connection, path)
        elif (page := self._face.page(path, self._facts, self.wall.counts())) is not None:
            plain = page.kind.startswith("text/")
            more = self.wall.lateness.prometheus() if plain else b""
            connection.reply(page.body + more, page.kind, page.status)
        else:
            connection.reply(b'{"detail":"Not Found"}', status=404)

    def _ask(self, connection: Connection, incoming: Incoming, *, chat: bool) -> None:
        setup, face = self._facts.setup, self._face
        ask = read_ask(incoming.body, chat=chat, block_tokens=self._hashed)
        if ask.model not in (None, setup.served_model):
            raise BadRequest(f"The model `{ask.model}` does not exist.", 404, "NotFoundError")
        room = setup.context_tokens - ask.prompt_tokens
        unsaid = max(room, 1) if chat else face.default_output
        output = unsaid if ask.output_tokens is None else ask.output_tokens
        if reason := face.too_long(setup, ask.prompt_tokens, output):
            raise BadRequest(reason)
        answer = Answer(
            next(self._numbers),
            ask.prompt_tokens,
            output,
            ask.blocks,
            connection=connection,
            model=setup.served_model,
            ask=ask,
            interval=setup.stream_interval,
        )
        connection.answer = answer
        self.wall.submit(answer)

    def _refuse(self, answer: Answer) -> None:
        body = self._face.error(400, answer.refused, "BadRequestError")
        answer.connection.reply(body, status=400)

    def _complain(self, status: int, message: str) -> bytes:
        return self._face.error(status, message, "BadRequestError")

    def _lost(self, connection: Connection) -> None:
        if isinstance(connection.answer, Answer):
            self.wall.abandon(connection.answer)

    def _twin(self, connection: Connection, path: str) -> None:
        pages = {"/twin": self._about, "/twin/power": self._power, "/twin/lag": self._lag}
        if path in pages:
            connection.reply(_encode(pages[path]()))
        else:
            connection.reply(b'{"detail":"Not Found"}', status=404)

    def _about(self) -> dict[str, object]:
        facts = self._facts
        return {
            "modelled": True,
            "system": self._config.system,
            "stands_for": f"{facts.setup.framework} {self._face.twin_of}",
            "table": str(self._assembled.key),
            "version": facts.version,
            "kv_tokens": facts.kv_tokens,
            "weights_bytes": facts.weights_bytes,
            "gpus": self._assembled.emulation.gpus,
            "setup": msgspec.to_builtins(facts.setup),
            "config": self._config.model_dump(),
        }

    def _power(self) -> dict[str, object]:
        emulation = self._assembled.emulation
        t_s = clock_s()
        energy_j, watts = emulation.energy_j(self.wall.now_s()), emulation.watts()
        limits = [
            engine.power.cap_w
            for engine in emulation.all_engines
            for _ in range(len(engine.ranks) * engine.gpus_per_rank)
        ]
        names = [each for each in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if each]
        devices = [
            {
                "index": index,
                "uuid": names[index] if len(names) == len(watts) else f"twin-{index}",
                "power_w": power_w,
                "energy_j": joules,
                "limit_w": limit_w,
            }
            for index, (power_w, joules, limit_w) in enumerate(
                zip(watts, energy_j, limits, strict=True)
            )
        ]
        return {"t_s": t_s, "devices": devices, "modelled": self._facts.version}

    def _lag(self) -> dict[str, float]:
        return self.wall.lateness.told()
