"""Which files of a study are uploaded: its own, reached through no link. A study folder may be anybody's."""

import stat
from collections.abc import Iterator
from pathlib import Path


class ForeignFileError(Exception):
    """A file or folder that is not the study's own. One line."""


def own_file(study: Path, path: Path) -> bool:
    """Whether the study has this regular file.

    Raises ForeignFileError if it, or a folder on the way to it, is a link.
    """
    here = study
    for part in path.relative_to(study).parts:
        here /= part
        try:
            mode = here.lstat().st_mode
        except FileNotFoundError:
            return False
        if part == ".." or stat.S_ISLNK(mode):
            raise ForeignFileError(f"{here} leads out of the study: it is not uploaded")
    return stat.S_ISREG(mode)


def own_files(study: Path, folder: Path) -> Iterator[Path]:
    """The regular files right in a folder of the study, in order. Raises ForeignFileError for a link."""
    own_file(study, folder)
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if own_file(study, path):
            yield path
