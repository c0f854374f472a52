"""What the commands about a machine share: progress, and names that are refused."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.text import Text

from tuner.config.errors import ConfigError, suggestion
from tuner.report.console import say, visible


@contextmanager
def progress(console: Console, what: str) -> Iterator[Callable[[str], None]]:
    """Reports steps: in one line that changes on a terminal, elsewhere in a line each."""
    if console.is_terminal:
        with console.status(Text(what)) as status:
            yield lambda step: status.update(Text(str(visible(step))))
    else:
        yield lambda step: say(console, step)


def one_of(what: str, name: str | None, known: Iterable[str]) -> None:
    """Raises ConfigError for a name that is not known, or none."""
    if name is None:
        raise ConfigError(f"which {what}? {suggestion('', known, f'{what}s')}")
    if name not in known:
        raise ConfigError(f"there is no {what} {name!r}; {suggestion(name, known, f'{what}s')}")


def size(count: float) -> str:
    """Bytes as people read them."""
    for unit, digits in (("GB", 9), ("MB", 6), ("kB", 3)):
        if count >= 10**digits:
            return f"{count / 10**digits:.1f} {unit}"
    return f"{count:.0f} B"
