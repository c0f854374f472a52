"""What `--info` prints: how a configuration is composed."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tuner.config.compose.choices import with_default
from tuner.config.compose.loader import ROOT, opened, parsed
from tuner.config.compose.mapping import complaints
from tuner.config.compose.overrides import words_of

INFO = ("all", "defaults-tree", "defaults", "searchpath")


def info(
    what: str, overrides: Sequence[str], config_dir: Path | None = None, root: str = ROOT
) -> str:
    """The text of one of INFO. Raises ConfigError."""
    from hydra.types import RunMode

    with opened(config_dir) as loader, complaints(loader, root):
        words = words_of(parsed(with_default(overrides, root), loader), root, loader)
        found = loader.hydra.compute_defaults_list(root, words, RunMode.MULTIRUN)
        search_path = [
            f"{each.provider}: {each.path}" for each in loader.hydra.get_search_path().get_path()
        ]
    sections = {
        "defaults-tree": list(_tree(found.defaults_tree, 0)),
        "defaults": [
            f"{each.config_path or '(empty)'} → {each.package or '_global_'}"
            for each in found.defaults
            if not str(each.config_path).startswith("hydra/")
        ],
        "searchpath": [each for each in search_path if ": structured" not in each],
    }
    if what != "all":
        return "\n".join(sections[what])
    return "\n\n".join(f"# {name}\n" + "\n".join(lines) for name, lines in sections.items())


def _tree(node: Any, depth: int) -> Iterator[str]:
    """A line for each element, without Hydra's own."""
    element = getattr(node, "node", node)
    group = getattr(element, "group", None)
    if str(group).partition("/")[0] == "hydra" or element.get_config_path() == "hydra/config":
        return
    virtual = type(element).__name__ == "VirtualRoot"
    if not virtual:
        name = element.get_name() or "null"
        text = (
            element.get_config_path() if group is None else f"{element.get_override_key()}: {name}"
        )
        yield "  " * depth + text
    for child in getattr(node, "children", None) or ():
        yield from _tree(child, depth + (not virtual))
