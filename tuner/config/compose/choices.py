"""Which groups a study must choose, and what is said where it does not."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from tuner.config.compose.loader import ROOT, Loader
from tuner.config.errors import ConfigError

EXPERIMENT = "experiment"
DEFAULT_EXPERIMENT = "laptop"
NO_EXPERIMENT = (f"{EXPERIMENT}=null", f"{EXPERIMENT}=")  # which Hydra can't apply
# The groups that say what is measured: none of them has a default.
REQUIRED = ("engine", "model", "hardware", "topology", "workload", "slo")
EXAMPLES = 2  # options that the message shows of each group


def group_of(word: str) -> str:
    """The key or group of an override as it is written: `+a@b=c` → a."""
    return word.lstrip("+~").partition("=")[0].partition("@")[0]


def typed_in(overrides: Sequence[str], path: str) -> bool:
    """Whether the words set what stands at a dotted path, or anything below it."""
    for word in overrides:
        key, _, value = word.lstrip("+~").partition("=")
        if f"{key}.".startswith(f"{path}."):
            return True
        if path.startswith(f"{key}.") and "{" in value:
            below = path.removeprefix(f"{key}.").split(".")
            if all(re.search(rf"\b{re.escape(each)}\b", value) for each in below):
                return True
    return False


def takes_default(overrides: Sequence[str], root: str = ROOT) -> bool:
    """Whether the words choose nothing that is measured, so that the study is experiment=laptop."""
    return root == ROOT and not {group_of(word) for word in overrides} & {EXPERIMENT, *REQUIRED}


def with_default(overrides: Sequence[str], root: str) -> list[str]:
    """The words, with the experiment that they take by default."""
    default = [f"{EXPERIMENT}={DEFAULT_EXPERIMENT}"] if takes_default(overrides, root) else []
    return [*default, *(word for word in overrides if word not in NO_EXPERIMENT)]


def check_choices(words: Sequence[str], root: str, loader: Loader) -> None:
    """Raises ConfigError, with all groups that are not chosen, if there are any."""
    from hydra.types import RunMode

    # In this mode Hydra lists what is missing instead of refusing the first.
    found = loader.hydra.compute_defaults_list(root, list(words), RunMode.MULTIRUN)
    missing = sorted(_missing(found.defaults_tree), key=_order)
    if not missing:
        return
    examples = ", ".join(f"{group}={_examples(group, loader)}" for group in missing)
    experiment = next((word for word in words if group_of(word) == EXPERIMENT), "")
    if experiment and experiment.partition("=")[2] not in ("", "null"):
        why = f"{experiment} does not choose"
        instead = "or take those of another in its defaults (`- laptop`)"
    else:
        why, instead = "not chosen", "or take a whole one: experiment=…"
    raise ConfigError(f"{why}: {examples} (`wattfront list GROUP`); {instead}")


def _missing(node: Any) -> Iterator[str]:
    """The groups of a defaults tree that stand for a choice: `???`."""
    element = getattr(node, "node", node)
    if hasattr(element, "group") and element.is_missing():
        yield element.get_override_key()
    for child in getattr(node, "children", None) or ():
        yield from _missing(child)


def _order(group: str) -> tuple[int, str]:
    return (REQUIRED.index(group) if group in REQUIRED else len(REQUIRED), group)


def _examples(group: str, loader: Loader) -> str:
    known = loader.get_group_options(group)
    return "|".join(known[:EXAMPLES]) + ("|…" if len(known) > EXAMPLES else "")
