"""Fetches a model into the cache of this node: once, resumed where it was cut, size and hash checked."""

import fcntl
import http.client
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import IO

from serving.install.hub import client
from serving.install.hub.cache import (
    BLOCK,
    OWN,
    Checked,
    ModelCache,
    hashed,
    is_offline,
    read_by_engines,
)
from serving.install.hub.client import FetchError, Hub, Listing, ModelFile, Unreachable
from serving.install.hub.found import Fetched, found, found_offline

Say = Callable[[str], None]
AT_ONCE = 8  # files
SAY_EVERY_S = 5.0
GB = 1e9


@dataclass(slots=True)
class _Progress:
    """Reports bytes from several threads, at most every SAY_EVERY_S."""

    say: Say
    title: str
    total: int
    done: int = 0
    fetched: int = 0
    stop: threading.Event = field(default_factory=threading.Event)
    _began_s: float = field(default_factory=time.monotonic)
    _said_s: float = field(default_factory=time.monotonic)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, count: int, *, fetched: bool = True) -> None:
        with self._lock:
            self.done += count
            self.fetched += count if fetched else 0
            now = time.monotonic()
            if now - self._said_s < SAY_EVERY_S:
                return
            self._said_s, rate = now, self.fetched / (now - self._began_s)
        self.say(
            f"{self.title}: {self.done / GB:.2f} of {self.total / GB:.2f} GB, {rate / 1e6:.0f} MB/s"
        )


def fetch(
    model: str,
    revision: str | None = None,
    say: Say = lambda _: None,
    environ: Mapping[str, str] | None = None,
    *,
    weights: bool = True,
) -> Fetched:
    """All files that an engine reads of a hub's model, as checked. Raises FetchError.

    `environ`: where cache, hub and token are named. `weights`: False for an engine that makes random ones. One
    process at a time fetches a model on a node; another waits, and then finds it.
    """
    environ = os.environ if environ is None else environ
    cache = ModelCache(model, environ)
    if is_offline(environ):
        return found_offline(cache, revision, weights=weights)
    hub = Hub(environ)
    with _alone(cache, say):
        try:
            listing = hub.listing(model, revision)
        except Unreachable as error:
            # What is here is enough, as it is for the engines.
            try:
                here = found_offline(cache, revision, weights=weights)
            except FetchError:
                raise error from None
            unchecked = cache.complete(revision, weights=weights) is None
            how = "is in the cache, not checked" if unchecked else "is in the cache"
            say(f"{model}: the hub is out of reach; {here.commit[:12]} {how}")
            return here
        _fill(cache, hub, listing, say, weights=weights)
        cache.resolve(revision, listing.sha)
    return found(cache, listing.sha, weights=weights)


def verify(
    model: str, revision: str | None = None, environ: Mapping[str, str] | None = None
) -> list[str]:
    """Reads a model's files: a line for each that is missing or damaged. Raises FetchError: none is here."""
    cache = ModelCache(model, os.environ if environ is None else environ)
    commit = cache.commit(revision)
    checked = None if commit is None else cache.checked(commit)
    if checked is None:
        raise FetchError(
            f"{model} at {revision or 'its default branch'} was not fetched by Wattfront into {cache.root}: "
            f"run `wattfront models fetch {model}`"
        )
    lines = []
    for each in read_by_engines(checked.files, weights=True):
        fault = (
            ""
            if each.etag not in checked.blobs and not cache.blob(each).exists()
            else _fault(cache, each)
        )
        if fault:
            lines.append(f"{each.name}: {fault}")
    return lines


@contextmanager
def _alone(cache: ModelCache, say: Say) -> Iterator[None]:
    (cache.folder / OWN).mkdir(parents=True, exist_ok=True)
    with (cache.folder / OWN / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"{cache.model}: waiting for another process on this node that fetches it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _fill(cache: ModelCache, hub: Hub, listing: Listing, say: Say, *, weights: bool) -> None:
    files = read_by_engines(listing.siblings, weights=weights)
    before = cache.checked(listing.sha)
    known = dict(before.blobs) if before else {}
    title = f"{cache.model} at {listing.sha[:12]}"
    progress = _Progress(say, title, sum(each.size for each in files))
    (cache.folder / "blobs").mkdir(parents=True, exist_ok=True)
    unique = list({each.etag: each for each in files}.values())
    if any(each for each in unique if cache.stamp(each) not in (None, known.get(each.etag))):
        say(f"{title}: checking files that are in {cache.root}")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        kept = list(pool.map(lambda each: _kept(cache, each, known, progress), unique))
    missing = [each for each, here in zip(unique, kept, strict=True) if not here]
    _check_space(cache, missing)
    if missing:
        size = sum(each.size for each in missing)
        say(f"{title}: fetching {size / GB:.2f} GB, {len(missing)} files, into {cache.root}")
    # The largest first: a small one is no tail.
    missing.sort(key=lambda each: -each.size)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        get = partial(_get, cache, hub, listing.sha, progress)
        try:
            for future in as_completed([pool.submit(get, each) for each in missing]):
                future.result()
        finally:  # also after ctrl-C: what has begun ends at its next block
            progress.stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
    for each in files:
        cache.link(each, listing.sha)
        known[each.etag] = cache.stamp(each) or (0, 0)
    cache.note(Checked(commit=listing.sha, files=listing.siblings, blobs=known))


def _kept(
    cache: ModelCache,
    file: ModelFile,
    known: Mapping[str, tuple[int, int]],
    progress: _Progress,
) -> bool:
    """Whether its content is here. What was not checked before is read; what is damaged is removed."""
    stamp = cache.stamp(file)
    if stamp is None:
        return False
    if stamp != known.get(file.etag) and (fault := _fault(cache, file)):
        progress.say(f"{cache.model}: {file.name} in {cache.root} {fault}: it is fetched again")
        cache.blob(file).unlink()
        return False
    progress.add(file.size, fetched=False)
    return True


def _fault(cache: ModelCache, file: ModelFile) -> str:
    """What is wrong with the content that is here; empty if nothing is."""
    stamp = cache.stamp(file)
    if stamp is None:
        return "is missing"
    if stamp[0] != file.size:
        return f"has {stamp[0]:,} bytes, not {file.size:,}"
    if hashed(file, cache.blob(file)).hexdigest() != file.etag:
        return (
            f"has another {'SHA-256' if file.lfs else 'git hash'} than the hub's {file.etag[:12]}…"
        )
    return ""


def _check_space(cache: ModelCache, missing: Sequence[ModelFile]) -> None:
    needed = 0
    for each in missing:
        part = cache.partial(each)
        needed += each.size - (part.stat().st_size if part.exists() else 0)
    free = shutil.disk_usage(cache.folder).free
    if needed > free:
        raise FetchError(
            f"{cache.model} needs {needed / GB:.1f} GB more in {cache.root}, and {free / GB:.1f} GB are free: "
            "free some, or set HF_HOME to a larger disk"
        )


def _get(cache: ModelCache, hub: Hub, commit: str, progress: _Progress, file: ModelFile) -> None:
    """Fetches one file, from where an earlier attempt was cut. Raises FetchError."""
    part, tries = cache.partial(file), 0
    progress.add(part.stat().st_size if part.exists() else 0, fetched=False)
    while True:
        had = part.stat().st_size if part.exists() else 0
        try:
            if had < file.size or not part.exists():
                _read(cache, hub, commit, progress, file)
        except OSError as error:
            raise FetchError(f"{cache.model}: {part}: {error.strerror}") from error
        except Unreachable as error:
            got = part.stat().st_size if part.exists() else 0
            tries = 0 if got > had else tries + 1
            if tries >= client.ATTEMPTS:
                raise Unreachable(
                    f"{cache.model}: {file.name} came to {got:,} of {file.size:,} bytes: {error}: start it "
                    "again, it goes on from there"
                ) from error
            progress.stop.wait(client.WAIT_S * 2 ** max(tries - 1, 0))
            continue
        break
    _finish(cache, file)


def _read(cache: ModelCache, hub: Hub, commit: str, progress: _Progress, file: ModelFile) -> None:
    part = cache.partial(file)
    had = part.stat().st_size if part.exists() else 0
    with hub.opened(cache.model, commit, file.name, had) as (answer, start):
        if start < had:
            progress.add(-had)
        with part.open("ab" if start else "wb") as to:
            while block := _block(answer):
                if progress.stop.is_set():
                    raise FetchError(f"{cache.model}: stopped")
                to.write(block)
                progress.add(len(block))
                if to.tell() > file.size:
                    break
    got = part.stat().st_size
    if got < file.size:
        raise Unreachable(f"the connection ended at {got:,} bytes")


def _block(answer: IO[bytes]) -> bytes:
    """The next bytes. Raises Unreachable where the connection fails."""
    try:
        return answer.read(BLOCK)
    except (OSError, http.client.HTTPException) as error:
        raise Unreachable(f"the connection failed: {error}") from error


def _finish(cache: ModelCache, file: ModelFile) -> None:
    """Checks size and hash of what arrived. Raises FetchError."""
    part = cache.partial(file)
    got = part.stat().st_size
    if got == file.size and hashed(file, part).hexdigest() == file.etag:
        part.rename(cache.blob(file))
        return
    part.unlink()
    what = (
        f"{got:,} bytes, not {file.size:,}"
        if got != file.size
        else "another hash than the hub says"
    )
    raise FetchError(
        f"{cache.model}: {file.name} arrived with {what}; it was removed: fetch it again"
    )
