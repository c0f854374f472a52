"""Where Wattfront keeps what it fetches, builds and extracts, and Hugging Face's libraries their models."""

import os
from collections.abc import Mapping
from pathlib import Path


def home() -> Path:
    """$WATTFRONT_HOME, else the XDG data directory's `wattfront`."""
    if own := os.environ.get("WATTFRONT_HOME"):
        return Path(own).expanduser().absolute()
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "wattfront"


def hub_cache(environ: Mapping[str, str]) -> Path:
    """HF_HUB_CACHE, else `hub` in HF_HOME, else in the XDG cache directory's `huggingface`."""
    if own := environ.get("HF_HUB_CACHE") or environ.get("HUGGINGFACE_HUB_CACHE"):
        return Path(os.path.expandvars(own)).expanduser().absolute()
    cache = environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    base = environ.get("HF_HOME") or Path(cache) / "huggingface"
    return Path(os.path.expandvars(base)).expanduser().absolute() / "hub"
