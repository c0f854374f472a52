"""Finds a model's config.json: in its folder, or in the cache of Hugging Face. Nothing is downloaded."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from serving.process.home import hub_cache

MAX_BYTES = 4 * 2**20


def config_file(located: str, revision: str | None = None) -> Mapping[str, Any] | None:
    """Its contents; None where there is none. `located`: a path, or a hub id."""
    folder = Path(located)
    paths = [folder / "config.json"] if folder.is_dir() else _cached(located, revision)
    for path in paths:
        try:
            if path.stat().st_size <= MAX_BYTES:
                data = json.loads(path.read_bytes())
                return data if isinstance(data, dict) else None
        except (OSError, ValueError, RecursionError):
            continue
    return None


def _cached(hub_id: str, revision: str | None) -> list[Path]:
    """In the layout of huggingface_hub's cache: models--ORG--NAME/{refs,snapshots}."""
    folder = hub_cache(os.environ) / f"models--{hub_id.replace('/', '--')}"
    name = revision or "main"
    try:
        commit = (folder / "refs" / name).read_text().strip()
    except (OSError, ValueError):
        commit = name
    return [folder / "snapshots" / commit / "config.json"]
