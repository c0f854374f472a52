"""What a running engine is to the rest of the product: URL, model name, proof of who answers."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`generation` names one start of one engine: it differs after any restart."""

    base_url: str
    model: str
    generation: str
    pid: int
    devices: tuple[str, ...]
    startup_s: float
    argv: tuple[str, ...]
    environ: tuple[tuple[str, str], ...]
    engine_version: str | None = None
    modelled: str | None = None  # what an emulated engine takes its step times from
