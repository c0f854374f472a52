"""A pool of open connections, so that a request that falls due is sent at once."""

import asyncio
import ssl
from collections import deque
from collections.abc import Callable, Coroutine

from loadgen.errors import BadTarget, EndpointUnreachable
from loadgen.http.connection import Connection, Owner
from loadgen.http.protocol import Target

_BURST = 64  # connections opened at once: a listen backlog is short
_RETRY_S = 0.2


class ConnectionPool:
    """Hands out idle connections: used ones first, then fresh ones, oldest first.

    A server with a thread per connection assigns threads to idle connections too, in the order in
    which they were opened: a fresh connection used out of order would wait for the earlier ones.
    """

    def __init__(self, target: Target, owner: Owner, spare: int, connect_timeout_s: float) -> None:
        self._target = target
        self._owner = owner
        self._spare = spare
        self._connect_timeout_s = connect_timeout_s
        self._ssl = tls(target)
        self._idle: deque[Connection] = deque()
        self._all: set[Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._opening = 0
        self._closed = False
        self.reuse = True  # False for a server that closes a connection after its response

    async def open(self, count: int) -> None:
        """Opens `count` connections. Raises EndpointUnreachable if one of them fails."""
        for start in range(0, count, _BURST):
            burst = range(start, min(start + _BURST, count))
            try:
                opened = await asyncio.gather(*(self._connect() for _ in burst))
            except OSError as error:
                raise EndpointUnreachable(
                    f"can't connect to {self._target.authority}: {connect_error(error)}"
                ) from error
            self._idle.extend(opened)

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(self._connect_timeout_s):
            _, connection = await loop.create_connection(
                lambda: Connection(self._owner), self._target.host, self._target.port, ssl=self._ssl
            )
        self._all.add(connection)
        return connection

    def take(self) -> Connection | None:
        """An idle connection; None if there is none."""
        while self._idle:
            connection = self._idle.popleft()
            if connection.usable and (self.reuse or not connection.served):
                if len(self._idle) + self._opening < self._spare:
                    self._start(self._replenish())
                return connection
        return None

    def give(self, connection: Connection) -> None:
        """Returns a connection after its response; it is closed if it can't be used again."""
        if connection.usable and not self._closed and (self.reuse or not connection.served):
            self._idle.appendleft(connection)
        else:
            connection.abort()

    def forget(self, connection: Connection) -> None:
        """Drops a connection that was lost."""
        self._all.discard(connection)

    def connect(self, ready: Callable[[Connection], None], failed: Callable[[str], None]) -> None:
        """Opens a connection for a request that found none idle, and calls `ready` or `failed`."""
        self._start(self._serve(ready, failed))

    async def _serve(
        self, ready: Callable[[Connection], None], failed: Callable[[str], None]
    ) -> None:
        try:
            connection = await self._connect()
        except OSError as error:  # TimeoutError is one
            failed(f"can't connect to {self._target.authority}: {connect_error(error)}")
        else:
            ready(connection)

    async def _replenish(self) -> None:
        self._opening += 1
        try:
            self._idle.append(await self._connect())
        except OSError:
            await asyncio.sleep(_RETRY_S)  # `connect` reports the error
        finally:
            self._opening -= 1

    def _start(self, work: Coroutine[None, None, None]) -> None:
        if self._closed:
            return
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        fault = None if task.cancelled() else task.exception()
        if fault is not None:
            what = "a connection could not be opened"
            task.get_loop().call_exception_handler({"message": what, "exception": fault})

    async def close(self) -> None:
        """Closes all connections and cancels those that are being opened."""
        self._closed = True
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for connection in list(self._all):
            connection.abort()
        self._idle.clear()
        await asyncio.sleep(0)


def tls(target: Target) -> ssl.SSLContext | None:
    """The TLS context of a target; None for plain HTTP. Raises BadTarget for files that can't be used."""
    if target.scheme == "http":
        return None
    context = ssl.create_default_context()
    used = target.ca_file
    try:
        if target.ca_file is not None:
            context.load_verify_locations(target.ca_file)
        if target.client_cert is not None:
            used = target.client_cert
            context.load_cert_chain(target.client_cert, target.client_key, lambda: "")
    except OSError as error:  # ssl.SSLError is one
        known = not isinstance(error, ssl.SSLError) and error.strerror
        why = known.lower() if known else "not a PEM file with what is needed"
        raise BadTarget(f"{used}: {why}") from None
    if not target.verified:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def connect_error(error: OSError) -> str:
    """Why a connection failed, in a few words."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ssl.SSLCertVerificationError):
        why = error.verify_message.rstrip(".").lower()
        return f"its certificate is not trusted: {why} (SSL_CERT_FILE, --insecure)"
    if isinstance(error, ssl.SSLError) and error.reason:
        return f"TLS failed: {error.reason.replace('_', ' ').lower()}"
    return (error.strerror or str(error) or type(error).__name__).lower()
