"""Locks among the processes of one user on this machine, in a folder that no other user can enter."""

import fcntl
import os
import stat
import tempfile
from pathlib import Path

from serving.errors import LaunchError


def private_folder() -> Path:
    """`wattfront-UID` in the temporary folder, made if missing: of mode 0700 and our own.

    Others can make a folder of this name first. Raises LaunchError for one that is not ours alone.
    """
    path = Path(tempfile.gettempdir(), f"wattfront-{os.getuid()}")
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        found = path.lstat()
    except FileExistsError:
        found = path.lstat()
    except OSError as error:
        raise LaunchError(
            f"{path}: {error.strerror}: set TMPDIR to a folder of your own"
        ) from error
    if not stat.S_ISDIR(found.st_mode):
        why = "is not a folder"
    elif found.st_uid != os.getuid():
        why = f"belongs to user {found.st_uid}"
    elif found.st_mode & 0o077:
        why = f"is open to others (mode {stat.S_IMODE(found.st_mode):o})"
    else:
        return path
    raise LaunchError(
        f"{path} {why}, so its locks are not safe: remove it, or set TMPDIR to a folder of your own"
    )


def locked(name: str) -> int | None:
    """The open file of a lock; None if another process holds it. Raises LaunchError.

    The lock is released when the file is closed, or its process dies.
    """
    path = private_folder() / name
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return None
    return lock
