"""Writes that survive a crash of the machine."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

PRIVATE_FOLDER, PRIVATE_FILE = 0o700, 0o600


def replace(path: Path, content: bytes) -> None:
    """Writes a file anew: what was there is replaced, and a link is never followed."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.unlink(missing_ok=True)
    part.write_bytes(content)
    part.replace(path)


def create_private(path: Path) -> None:
    """Creates an empty file that only its owner can read, unless it exists."""
    os.close(_private(path, os.O_CREAT | os.O_WRONLY))


def _private(path: Path, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, PRIVATE_FILE)


def sync(file: BinaryIO) -> None:
    """Returns when the file's content is on disk."""
    file.flush()
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Returns when the folder's names are on disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Creates the folder if missing, and writes the files in it: name → content."""
    folder.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
    for name, content in files.items():
        with os.fdopen(
            _private(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "wb"
        ) as file:
            file.write(content)
            sync(file)
    sync_folder(folder)
    sync_folder(folder.parent)
