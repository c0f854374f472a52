"""Who may use an engine's port: nobody outside its machine, or whoever has the API key of this start."""

import os
import secrets
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from serving.engines.base import BaseEngine
from serving.errors import LaunchError

HIDDEN = "***"
EMULATED_KEY = "WATTFRONT_TWIN_API_KEY"  # the variable from which an emulated engine reads its key


@dataclass(frozen=True, slots=True)
class Access:
    """An API key, and the arguments and variables that make the engine ask for it, real and as shown."""

    api_key: str | None = field(default=None, repr=False)
    argv: tuple[str, ...] = field(default=(), repr=False)
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)
    shown_argv: tuple[str, ...] = ()
    shown_environ: Mapping[str, str] = field(default_factory=dict)


@contextmanager
def granted(engine: BaseEngine, log: Path, *, apart: bool, emulated: bool) -> Iterator[Access]:
    """The access to one start of an engine; its key is in no argument list, and at the end in no log.

    `apart`: other hosts reach the engine, so it gets a key of its own if it can ask for one.
    """
    given = None if emulated else _given(engine)
    if given:
        access = Access(given)
    elif apart and (emulated or engine.has_api_key):
        with tempfile.TemporaryDirectory(prefix="wattfront-key-") as folder:
            access = _made(engine, None if emulated else Path(folder))
            with _redacted(log, access):
                yield access
        return
    else:
        access = Access()
    with _redacted(log, access):
        yield access


def _given(engine: BaseEngine) -> str | None:
    """The key that the configuration gives the engine."""
    name = engine.api_key_variable
    passed = os.environ.get(name) if name in engine.env_passthrough else None
    return engine.env.get(name, passed)


def _made(engine: BaseEngine, folder: Path | None) -> Access:
    key = secrets.token_hex(32)
    shown_argv, shown_environ = shown(engine, emulated=folder is None)
    if folder is None:
        return Access(key, (), {EMULATED_KEY: key}, shown_argv, shown_environ)
    argv, environ = engine.ask_for(key, folder)
    return Access(key, tuple(argv), environ, shown_argv, shown_environ)


def shown(engine: BaseEngine, *, emulated: bool) -> tuple[tuple[str, ...], dict[str, str]]:
    """The arguments and variables of an engine that other hosts reach, its key hidden."""
    if emulated:
        return (), {EMULATED_KEY: HIDDEN}
    argv, environ = engine.ask_for(HIDDEN, None) if engine.has_api_key else ([], {})
    return tuple(argv), environ


@contextmanager
def _redacted(log: Path, access: Access) -> Iterator[None]:
    """Removes the key from the log after the block: some engines log all their arguments."""
    try:
        yield
    finally:
        if access.api_key and log.exists():
            text = log.read_bytes()
            if (key := access.api_key.encode()) in text:
                log.write_bytes(text.replace(key, HIDDEN.encode()))


def check_passed(kind: str, names: Sequence[str]) -> None:
    """Raises LaunchError if a variable of an engine's `env_passthrough` is not set on this node."""
    if unset := [name for name in names if name not in os.environ]:
        raise LaunchError(
            f"engine.{kind}.env_passthrough: {', '.join(unset)} is not set where the engine "
            "starts: set it in the environment of `wattfront`, or of the Ray node of a cluster"
        )
