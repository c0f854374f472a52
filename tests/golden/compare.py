"""Two trees of values, and where they differ."""

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from typing import Any

REL = 1e-9
MOST_LINES = 18
_LONGEST = 90  # characters of a value that is shown


def differences(golden: Any, now: Any, path: str = "") -> Iterator[str]:
    """A line for each value that is not as it was: its path, golden, now. 1 is 1.0, and no True."""
    if isinstance(golden, Mapping) and isinstance(now, Mapping):
        for key in [*golden, *(key for key in now if key not in golden)]:
            inner = f"{path}.{key}" if path else str(key)
            if key not in now:
                yield f"{inner}: golden {_short(golden[key])}, now missing"
            elif key not in golden:
                yield f"{inner}: new, now {_short(now[key])}"
            else:
                yield from differences(golden[key], now[key], inner)
    elif _words(golden) and _words(now):
        yield from _differing_words(golden, now, path)
    elif isinstance(golden, list) and isinstance(now, list):
        if len(golden) != len(now):
            yield f"{path}: golden has {len(golden)} items, now {len(now)}"
        for index, (old, new) in enumerate(zip(golden, now, strict=False)):
            yield from differences(old, new, f"{path}[{index}]")
    elif not _same(golden, now):
        yield f"{path}: golden {_short(golden)}, now {_short(now)}"


def renamed(golden: Any, renames: Mapping[str, str], path: str = "") -> Any:
    """Golden under today's names: keys, and texts that are just a name.

    A name with dots is the end of a path, so that a key is renamed there and nowhere else.
    """
    if isinstance(golden, Mapping):
        made = {}
        for key, value in golden.items():
            inner = f"{path}.{key}" if path else str(key)
            made[_new_key(str(key), inner, renames)] = renamed(value, renames, inner)
        return made
    if isinstance(golden, list):
        new = [renamed(value, renames, path) for value in golden]
        return sorted(new) if _words(golden) and golden == sorted(golden) else new
    return renames.get(golden, golden) if isinstance(golden, str) else golden


def without(now: Any, added: Collection[str]) -> Any:
    """Today's values, short of the keys and of the words in lists that are new on purpose."""
    if isinstance(now, Mapping):
        return {key: without(value, added) for key, value in now.items() if key not in added}
    if isinstance(now, list):
        return [without(v, added) for v in now if not (isinstance(v, str) and v in added)]
    return now


def unsaid(tree: Any, words: Collection[str]) -> Any:
    """The tree with these words left out of its texts."""
    if isinstance(tree, Mapping):
        return {key: unsaid(value, words) for key, value in tree.items()}
    if isinstance(tree, list):
        bare = {word.strip() for word in words}
        return [unsaid(v, words) for v in tree if not (isinstance(v, str) and v in bare)]
    if isinstance(tree, str):
        for word in words:
            tree = tree.replace(word, "")
    return tree


def told(differing: Iterator[str]) -> str:
    """What a person reads of the differences; empty if there are none."""
    lines = list(differing)
    more = len(lines) - MOST_LINES
    rest = [f"... and {more} more"] if more > 0 else []
    return "\n".join([*lines[:MOST_LINES], *rest])


def _words(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _differing_words(golden: list[str], now: list[str], path: str) -> Iterator[str]:
    """A list of names or of arguments: what was left out and what was added."""
    gone, added = Counter(golden) - Counter(now), Counter(now) - Counter(golden)
    if gone or added:
        yield f"{path}: golden {_short(sorted(gone))}, now {_short(sorted(added))}"
    elif golden != now:
        yield f"{path}: golden {_short(golden)}, now in another order {_short(now)}"


def _new_key(key: str, path: str, renames: Mapping[str, str]) -> str:
    if key in renames:
        return renames[key]
    for old, new in renames.items():
        if "." in old and f".{path}".endswith(f".{old}"):
            return new.rsplit(".", 1)[-1]
    return key


def _same(golden: Any, now: Any) -> bool:
    numbers = (int, float)
    if isinstance(golden, bool) or isinstance(now, bool) or not isinstance(golden, numbers):
        return type(golden) is type(now) and bool(golden == now)
    if not isinstance(now, numbers):
        return False
    both_nan = math.isnan(golden) and math.isnan(now)
    return both_nan or math.isclose(golden, now, rel_tol=REL, abs_tol=1e-12)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
