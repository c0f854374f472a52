"""A model that is in the cache, and what it lacks there."""

import json
from dataclasses import dataclass
from pathlib import Path

from serving.install.hub.cache import ModelCache, read_by_engines
from serving.install.hub.client import FetchError


@dataclass(frozen=True, slots=True)
class Fetched:
    """`path`: the model's folder at `commit`."""

    commit: str
    path: Path
    size_bytes: int


def found(cache: ModelCache, commit: str, *, weights: bool) -> Fetched:
    """A model that is in the cache at a commit."""
    checked = cache.checked(commit)
    files = () if checked is None else read_by_engines(checked.files, weights=weights)
    return Fetched(commit, cache.snapshot(commit), sum(each.size for each in files))


def found_offline(cache: ModelCache, revision: str | None, *, weights: bool) -> Fetched:
    """What is in the cache. Raises FetchError with what is missing there."""
    named = f"{cache.model} at {revision or 'its default branch'}"
    commit = cache.commit(revision)
    if commit is None or not cache.snapshot(commit).is_dir():
        raise FetchError(
            f"{named} is not in {cache.root}, and HF_HUB_OFFLINE forbids to fetch it: unset that, or copy "
            f"{cache.folder.name} there from a node that has it"
        )
    if lacking := _lacking(cache, commit, weights=weights):
        more = f" and {len(lacking) - 3} more" if len(lacking) > 3 else ""
        raise FetchError(
            f"{named} in {cache.root} lacks {', '.join(lacking[:3])}{more}, and HF_HUB_OFFLINE forbids to "
            "fetch them"
        )
    return found(cache, commit, weights=weights)


def _lacking(cache: ModelCache, commit: str, *, weights: bool) -> list[str]:
    """By the hub's list of files, if it was kept; else by the model's own list of its weights."""
    folder, checked = cache.snapshot(commit), cache.checked(commit)
    if checked is not None:
        wanted = [each.name for each in read_by_engines(checked.files, weights=weights)]
    else:
        wanted = ["config.json", *(_shards(folder) if weights else ())]
    return [name for name in wanted if not (folder / name).is_file()]


def _shards(folder: Path) -> list[str]:
    try:
        index = json.loads((folder / "model.safetensors.index.json").read_bytes())
        return sorted({str(name) for name in index["weight_map"].values()})
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        found = any(folder.glob("*.safetensors")) or any(folder.glob("*.bin"))
        return [] if found else ["model.safetensors"]
