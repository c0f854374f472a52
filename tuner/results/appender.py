"""The file of a ledger that one process writes: locked, synced, and never trusted to be as it was left."""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tuner.results.durable import PRIVATE_FILE, PRIVATE_FOLDER, sync_folder
from tuner.results.entry import LedgerError

FOUND = "found"  # ledger.jsonl.found-1: what stood in the ledger's place
_VARIANTS = 999


class Changed(Exception):
    """The file is not what this process left: it was removed, replaced, cut or written to."""


class Appender:
    """An open ledger. Every append first checks that the file is what the last one left."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path, self._descriptor = path, descriptor
        self._size = os.fstat(descriptor).st_size

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator["Appender"]:
        """Creates the file if it is missing. Raises LedgerError."""
        try:
            path.parent.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
            appender = cls(path, _locked(path, os.O_CREAT))
        except OSError as error:
            raise _cannot("open", path, error) from error
        try:
            yield appender
        finally:
            os.close(appender._descriptor)

    def read(self) -> bytes:
        """The whole file."""
        try:
            return self._path.read_bytes()
        except OSError as error:
            raise _cannot("read", self._path, error) from error

    def cut(self, size: int) -> bytes:
        """Drops what follows the first `size` bytes, and returns it."""
        tail = os.pread(self._descriptor, self._size - size, size)
        try:
            os.ftruncate(self._descriptor, size)
        except OSError as error:
            raise _cannot("write", self._path, error) from error
        self._size = size
        return tail

    def append(self, lines: bytes) -> None:
        """Writes and syncs lines, all of them or none. Raises Changed, and LedgerError if it can't write."""
        if (what := self._difference()) is not None:
            raise Changed(what)
        try:
            _write(self._descriptor, lines)
        except OSError as error:
            os.ftruncate(self._descriptor, self._size)
            raise _cannot("write", self._path, error) from error
        self._size += len(lines)

    def replace(self, whole: bytes) -> Path | None:
        """Puts a new file in place of whatever is there, which is kept: its path. Raises LedgerError."""
        path = self._path
        new = path.with_name(f"{path.name}.new")
        try:
            path.parent.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
            new.unlink(missing_ok=True)
            descriptor = _locked(new, os.O_CREAT | os.O_EXCL)
            with ExitStack() as undone:
                undone.callback(os.close, descriptor)
                undone.callback(new.unlink, missing_ok=True)
                _write(descriptor, whole)
                with _claimed(path, self._descriptor):
                    kept = kept_aside(path)
                    new.rename(path)
                sync_folder(path.parent)
                undone.pop_all()
        except OSError as error:
            raise _cannot("write", path, error) from error
        os.close(self._descriptor)
        self._descriptor, self._size = descriptor, len(whole)
        return kept

    def _difference(self) -> str | None:
        """How the file differs from what the last append left; None if it does not."""
        mine = os.fstat(self._descriptor)
        try:
            there = self._path.stat()
        except FileNotFoundError:
            return "removed"
        except OSError as error:
            raise _cannot("read", self._path, error) from error
        if (there.st_dev, there.st_ino) != (mine.st_dev, mine.st_ino):
            return "replaced"
        if mine.st_size < self._size:
            return "cut"
        return "written to by somebody else" if mine.st_size > self._size else None


def kept_aside(path: Path) -> Path | None:
    """Renames a file so that another may take its place; None if there is none. Raises OSError."""
    for variant in range(1, _VARIANTS):
        aside = path.with_name(f"{path.name}.{FOUND}-{variant}")
        if not os.path.lexists(aside):
            try:
                path.rename(aside)
            except FileNotFoundError:
                return None
            return aside
    raise FileExistsError(f"{path.name}.{FOUND}-1 to -{_VARIANTS - 1}")


def saved_elsewhere(whole: bytes) -> Path | None:
    """Writes a ledger that its own disk does not take to another folder; None if none takes it."""
    for folder in dict.fromkeys((tempfile.gettempdir(), "/dev/shm", str(Path.home()))):
        try:
            path = Path(tempfile.mkdtemp(prefix="wattfront-ledger-", dir=folder)) / "ledger.jsonl"
            path.write_bytes(whole)
        except OSError:
            continue
        return path
    return None


def in_use(path: Path) -> bool:
    """Whether a process writes to the ledger now."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


@contextmanager
def _claimed(path: Path, own: int) -> Iterator[None]:
    """Nobody else writes to what is there, if anything is. Raises LedgerError if somebody does."""
    try:
        same = os.path.samestat(path.stat(), os.fstat(own))
        found = None if same else _locked(path, 0)
    except FileNotFoundError:
        found = None
    try:
        yield
    finally:
        if found is not None:
            os.close(found)


def _locked(path: Path, flags: int) -> int:
    descriptor = os.open(
        path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | flags, PRIVATE_FILE
    )
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise LedgerError(f"{path}: another process is writing to it") from error
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _write(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
    os.fsync(descriptor)


def _cannot(what: str, path: Path, error: OSError) -> LedgerError:
    return LedgerError(f"{path}: cannot {what} it: {error.strerror or error}")
