"""What a GPU had before its settings were changed: on disk, so that it outlives a keeper that is killed."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Original:
    """`before_mw`: the power limit that was replaced by `set_mw`; None: it was not changed.

    `clocks_locked`: the clocks were locked, and have to be reset.
    """

    before_mw: int | None
    set_mw: int | None
    clocks_locked: bool


def folder() -> Path:
    """$WATTFRONT_HOME/gpus, else that of the XDG state directory."""
    if own := os.environ.get("WATTFRONT_HOME"):
        return Path(own).expanduser().absolute() / "gpus"
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "wattfront" / "gpus"


def recorded() -> bool:
    """Whether any GPU of this machine has the settings of a trial: one that runs, or one that was killed."""
    return any(load(path.stem) is not None for path in folder().glob("*.json"))


def load(uuid: str) -> Original | None:
    """The record of a GPU; None if there is none of this boot: a restart resets all settings."""
    try:
        read = json.loads(_path(uuid).read_text())
        if read.pop("boot_id") != BOOT_ID.read_text().strip():
            return None
        original = Original(**read)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    limits = (original.before_mw, original.set_mw)
    known = all(limit is None or (isinstance(limit, int) and limit > 0) for limit in limits)
    return original if known and isinstance(original.clocks_locked, bool) else None


def save(uuid: str, original: Original) -> None:
    """Writes the record before a setting is changed. Raises OSError."""
    path = _path(uuid)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    text = json.dumps({**asdict(original), "boot_id": BOOT_ID.read_text().strip()})
    part = path.with_suffix(".part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    part.rename(path)


def drop(uuid: str) -> None:
    """Removes the record, once the settings are restored."""
    _path(uuid).unlink(missing_ok=True)


def _path(uuid: str) -> Path:
    return folder() / f"{uuid.replace('/', '-')}.json"
