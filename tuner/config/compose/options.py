"""The groups and their options as the files name them: without Hydra, so that a list is there at once."""

import operator
import re
from dataclasses import dataclass
from itertools import dropwhile, takewhile
from pathlib import Path

from tuner.config.compose.loader import OTHER_ROOTS, conf_dir

SENTENCE_END = re.compile(r"(?<=[.])\s+")


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a group. `name`: with its folder, where that is one inside the group's."""

    name: str
    about: str  # the first sentence of its comment
    path: Path


def groups(config_dir: Path | None = None, root: str | None = None) -> list[str]:
    """The names of the groups; with `root` those of one root only."""
    found = {
        path.name for folder in _folders(config_dir) for path in folder.iterdir() if path.is_dir()
    }
    if root is None:
        return sorted(found)
    if root in OTHER_ROOTS:
        return sorted(OTHER_ROOTS[root] & found)
    return sorted(found.difference(*OTHER_ROOTS.values()))


def options(group: str, config_dir: Path | None = None) -> list[Option]:
    """The options of a group, by name."""
    found: dict[str, Path] = {}
    for folder in _folders(config_dir):
        for path in (folder / group).rglob("*.yaml"):
            found.setdefault(path.relative_to(folder / group).with_suffix("").as_posix(), path)
    return [Option(name, first_sentence(found[name]), found[name]) for name in sorted(found)]


def first_sentence(path: Path) -> str:
    """The first sentence of a file's first comment, Hydra's `# @package` left out; empty if it has none."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    head = takewhile(lambda line: line.startswith("#") or not line.strip(), lines)
    texts = [line.lstrip("#").strip() for line in head]
    comment = dropwhile(operator.not_, (each for each in texts if each[:8] != "@package"))
    return SENTENCE_END.split(" ".join(takewhile(bool, comment)), maxsplit=1)[0]


def _folders(config_dir: Path | None) -> list[Path]:
    return [conf_dir(), *([config_dir] if config_dir is not None and config_dir.is_dir() else [])]
