"""Where Wattfront keeps what it fetches, builds and extracts."""

import os
from pathlib import Path


def home() -> Path:
    """$WATTFRONT_HOME, else the XDG data directory's `wattfront`."""
    if own := os.environ.get("WATTFRONT_HOME"):
        return Path(own).expanduser().absolute()
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "wattfront"
