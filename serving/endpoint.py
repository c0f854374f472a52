"""A running engine as the rest of the product sees it: URL, model name, and which process answers."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`generation` identifies one start of one engine: it differs after any restart.

    `devices`: GPUs as CUDA_VISIBLE_DEVICES names them, or CPU cores. `argv`, `environ`: as it was started;
    empty for a server that was already running. `api_key`: the one that it asks for, if any; it is shown
    nowhere.
    """

    base_url: str
    model: str
    generation: str
    pid: int
    devices: tuple[str, ...]
    startup_s: float
    argv: tuple[str, ...]
    environ: tuple[tuple[str, str], ...]
    engine_version: str | None = None
    image_digest: str = ""  # of its container's image; empty: it has none
    engine_lock: str = ""  # SHA-256 of the lock of its environment; empty: it has none
    api_key: str | None = field(default=None, repr=False)
    meeting_port: int | None = None  # of an engine with a role: where the others find it
    members: tuple["Endpoint", ...] = ()  # the engines behind it, where it is a router
    modelled: str | None = None  # of an emulated engine: the source of its step times


@dataclass(frozen=True, slots=True)
class CacheReset:
    """How an engine forgets the prefixes that it knows: POST to `path`, where `environ` opens it."""

    path: str
    environ: tuple[tuple[str, str], ...] = ()
