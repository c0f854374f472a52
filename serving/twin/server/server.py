"""The twin as a server: OpenAI's API over the emulation, the framework's pages, and the twin's own.

Every output has exactly `max_tokens` tokens, with or without `ignore_eos`: there is no model, so no end-of-text
token. All reported times, power and energy are modelled.
"""

import asyncio
import gc
import os
import resource
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from hmac import compare_digest
from itertools import count
from typing import cast

import msgspec

from serving.engines.access import EMULATED_KEY
from serving.twin.config import TwinConfig
from serving.twin.engine.assemble import Assembled
from serving.twin.errors import DeviceMemoryExhausted
from serving.twin.frameworks.dialects import Dialect, EngineInfo
from serving.twin.server.http import Connection, HttpRequest
from serving.twin.server.requests import BadRequest, parse_request
from serving.twin.server.responses import ServedRequest
from serving.twin.server.wall_clock import WallClock, clock_s

BACKLOG = 4096
_encode = msgspec.json.encode


def serve(assembled: Assembled, dialect: Dialect, info: EngineInfo, config: TwinConfig) -> int:
    """Runs until SIGTERM or SIGINT; returns the exit code. Raises OSError if it can't listen."""
    return asyncio.Runner(loop_factory=_loop).run(_serve(assembled, dialect, info, config))


def _loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return cast(asyncio.AbstractEventLoop, uvloop.new_event_loop())


async def _serve(
    assembled: Assembled, dialect: Dialect, info: EngineInfo, config: TwinConfig
) -> int:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, stop.set)
    began_s = clock_s()
    startup = [*dialect.startup_log(info), (1.0, "")]
    for share, line in startup:
        rest_s = began_s + share * info.start_s - clock_s()
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), max(rest_s, 0.0)) if rest_s > 0 else None
        if stop.is_set():
            return 0
        if line:
            say(line)
    _raise_limits()
    crashes: list[DeviceMemoryExhausted] = []

    def crashed(error: DeviceMemoryExhausted) -> None:
        say(dialect.step_oom(error))
        crashes.append(error)
        stop.set()

    server = Server(assembled, dialect, info, config, loop, crashed)
    listening = await loop.create_server(
        server.connection, info.setup.host, info.setup.port, backlog=BACKLOG
    )
    for line in dialect.ready_log(info):
        say(line)
    gc.collect()
    gc.freeze()
    await stop.wait()
    listening.close()
    server.clock.close()
    return 1 if crashes else 0


def say(line: str) -> None:
    """Prints a line of the engine's log."""
    print(line, file=sys.stderr, flush=True)  # noqa: T201  (engines log to standard error)


def _raise_limits() -> None:
    """Each connection takes a file descriptor."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Server:
    """Routes HTTP requests. `crashed` is called when a step runs out of memory."""

    def __init__(
        self,
        assembled: Assembled,
        dialect: Dialect,
        info: EngineInfo,
        config: TwinConfig,
        loop: asyncio.AbstractEventLoop,
        crashed: Callable[[DeviceMemoryExhausted], None],
    ) -> None:
        self._assembled, self._dialect, self._info, self._config = assembled, dialect, info, config
        self._api_key = os.environ.get(EMULATED_KEY, "")
        self.clock = WallClock(assembled.emulation, loop, self._reject, crashed)
        self._numbers = count()
        setup = info.setup
        blocks = assembled.emulation.engines[0].ranks[0].blocks
        self._hashed_tokens = blocks.block_tokens if blocks.prefix_caching else 0
        entry = {"id": setup.served_model, "object": "model", "owned_by": setup.framework}
        model = {**entry, "root": setup.model, "max_model_len": setup.context_tokens}
        self._models = _encode({"object": "list", "data": [model]})

    def connection(self) -> Connection:
        """A new connection, as asyncio asks for it."""
        return Connection(self._handle, self._error_body, self._disconnected)

    def _handle(self, connection: Connection, request: HttpRequest) -> None:
        path = request.path
        if not (self._authorized(request) or path in self._dialect.health):
            connection.reply(self._error_body(401, "Unauthorized"), status=401)
        elif path in ("/v1/completions", "/v1/chat/completions"):
            if request.method != "POST":
                connection.reply(b'{"detail":"Method Not Allowed"}', status=405)
                return
            try:
                self._complete(connection, request, chat=path.startswith("/v1/chat"))
            except BadRequest as bad:
                body = self._dialect.error_body(bad.status, str(bad), bad.kind)
                connection.reply(body, status=bad.status)
        elif path in self._dialect.health:
            connection.reply(b"", "text/plain")
        elif path == "/v1/models":
            connection.reply(self._models)
        elif path.startswith("/twin"):
            self._twin(connection, path)
        elif (page := self._dialect.page(path, self._info, self.clock.counters())) is not None:
            plain = page.kind.startswith("text/")
            more = self.clock.lag.prometheus() if plain else b""
            connection.reply(page.body + more, page.kind, page.status)
        else:
            connection.reply(b'{"detail":"Not Found"}', status=404)

    def _authorized(self, request: HttpRequest) -> bool:
        key = self._api_key
        return not key or compare_digest(request.authorization.encode(), f"Bearer {key}".encode())

    def _complete(self, connection: Connection, request: HttpRequest, *, chat: bool) -> None:
        setup, dialect = self._info.setup, self._dialect
        asked = parse_request(request.body, chat=chat, block_tokens=self._hashed_tokens)
        if asked.model not in (None, setup.served_model):
            raise BadRequest(f"The model `{asked.model}` does not exist.", 404, "NotFoundError")
        room = setup.context_tokens - asked.prompt_tokens
        default = max(room, 1) if chat else dialect.default_output
        output = default if asked.output_tokens is None else asked.output_tokens
        if reason := dialect.length_error(setup, asked.prompt_tokens, output):
            raise BadRequest(reason)
        served = ServedRequest(
            next(self._numbers),
            asked.prompt_tokens,
            output,
            asked.blocks,
            connection=connection,
            model=setup.served_model,
            asked=asked,
            interval=setup.stream_interval,
        )
        connection.response = served
        self.clock.submit(served)

    def _reject(self, served: ServedRequest) -> None:
        served.connection.reply(self._error_body(400, served.rejection), status=400)

    def _error_body(self, status: int, message: str) -> bytes:
        return self._dialect.error_body(status, message, "BadRequestError")

    def _disconnected(self, connection: Connection) -> None:
        if isinstance(connection.response, ServedRequest):
            self.clock.abort(connection.response)

    def _twin(self, connection: Connection, path: str) -> None:
        pages = {"/twin": self._about, "/twin/power": self._power, "/twin/lag": self._lag}
        if path in pages:
            connection.reply(_encode(pages[path]()))
        else:
            connection.reply(b'{"detail":"Not Found"}', status=404)

    def _about(self) -> dict[str, object]:
        info = self._info
        return {
            "modelled": True,
            "system": self._config.system,
            "stands_for": f"{info.setup.framework} {self._dialect.twin_of}",
            "table": str(self._assembled.key),
            "version": info.version,
            "kv_tokens": info.kv_tokens,
            "weights_bytes": info.weights_bytes,
            "gpus": self._assembled.emulation.gpus,
            "setup": msgspec.to_builtins(info.setup),
            "config": self._config.model_dump(),
        }

    def _power(self) -> dict[str, object]:
        emulation = self._assembled.emulation
        t_s = clock_s()
        energy_j, watts = emulation.energy_j(self.clock.now_s()), emulation.watts()
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
        return {"t_s": t_s, "devices": devices, "modelled": self._info.version}

    def _lag(self) -> dict[str, float]:
        return self.clock.lag.summary()
