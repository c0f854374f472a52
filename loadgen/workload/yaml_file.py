"""Reads a YAML file that is not trusted. Whatever is wrong with it is one line, with file and line number.

It is judged before anything is built from it: PyYAML would expand nested aliases without a limit, and recurse.
"""

import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import yaml

BYTES_MAX = 1_000_000
NODES_MAX = 200_000  # aliases expanded
DEPTH_MAX = 50
DIGITS_MAX = 1000
DEVICES = "/dev/"  # where a shell puts the pipes that stand for files


class BadYaml(ValueError):
    """A YAML file can't be used."""


def read_mapping(path: Path) -> dict[str, Any]:
    """The mapping that a file holds. Raises BadYaml."""
    text = yaml_text(path)
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise BadYaml(yaml_fault(path, error)) from error
    except (ValueError, OverflowError) as error:  # a date or a number that Python does not have
        raise BadYaml(f"{path}:{_fault_line(text)}: {first_line(error)}") from error
    if not isinstance(data, dict):
        raise BadYaml(f"{path}:1: expected keys with values, such as name: value")
    return {str(key): value for key, value in data.items()}


def yaml_text(path: Path) -> str:
    """The text of a file, once it is known to be one YAML document of bounded size. Raises BadYaml."""
    text = _decoded(path, _content(path))
    try:
        _judge(path, text)
    except yaml.YAMLError as error:
        raise BadYaml(yaml_fault(path, error, text)) from error
    except BadYaml:
        raise
    except (ValueError, OverflowError) as error:
        raise BadYaml(f"{path}: an escape names a character that does not exist") from error
    return text


def yaml_fault(path: Path, error: yaml.YAMLError, text: str = "") -> str:
    """PyYAML's error in one line: file, line number, what is wrong."""
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        return f"{path}:{line}: the character U+{int(error.character):04X} is not allowed in YAML"
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        where = path if mark is None else f"{path}:{mark.line + 1}"
        what = " ".join((error.problem or error.context or "not YAML").split())
        return f"{where}: not valid YAML: {what}{_hint(what)}"
    return f"{path}: not valid YAML: {first_line(error)}"


def first_line(error: BaseException) -> str:
    """The first line of an error's text that is not empty; else its class."""
    lines = (line.strip() for line in str(error).splitlines())
    return next((line for line in lines if line), type(error).__name__)


def _hint(what: str) -> str:
    return ": indent with spaces, not tabs" if "\\t" in what else ""


def _content(path: Path) -> bytes:
    if "\0" in str(path):
        raise BadYaml(f"{str(path)!r}: a path has no NUL")
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise BadYaml(f"{path}: it is a directory, not a YAML file")
        if not stat.S_ISREG(mode) and not str(path).startswith(DEVICES):
            raise BadYaml(f"{path}: it is no regular file")
        with path.open("rb") as file:
            content = file.read(BYTES_MAX + 1)
    except OSError as error:
        raise BadYaml(f"{path}: {(error.strerror or str(error)).lower()}") from error
    if len(content) > BYTES_MAX:
        raise BadYaml(f"{path}: more than {BYTES_MAX // 1_000_000} MB: not a configuration")
    return content


def _decoded(path: Path, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        what = f"the byte 0x{content[error.start]:02X} is not UTF-8"
        raise BadYaml(f"{path}:{line}: {what}: save the file as UTF-8") from error


@dataclass
class _Collection:
    """A collection that has begun. `nodes` counts what is in it, aliases expanded."""

    anchor: str | None
    mapping: bool
    nodes: int = 1
    items: int = 0
    keys: set[str] = field(default_factory=set)


class _Judge:
    """Goes over the events of a text and finds what is ambiguous, endless, too deep or too large."""

    def __init__(self) -> None:
        self._anchors: dict[str, int] = {}  # name → nodes; 0: still open
        self._stack = [_Collection(None, mapping=False)]
        self._documents = 0

    def check(self, event: Any) -> None:
        """Raises BadYaml, without file and line."""
        match event:
            case yaml.DocumentStartEvent():
                self._documents += 1
                if self._documents > 1:
                    raise BadYaml("a second document begins; one is expected")
            case yaml.CollectionStartEvent():
                self._open(event)
            case yaml.CollectionEndEvent():
                closed = self._stack.pop()
                self._name(closed.anchor, closed.nodes)
                self._add(closed.nodes)
            case yaml.AliasEvent():
                self._add(self._known(event.anchor))
            case yaml.ScalarEvent():
                self._scalar(event)

    def _open(self, event: Any) -> None:
        self._stack.append(_Collection(event.anchor, isinstance(event, yaml.MappingStartEvent)))
        self._name(event.anchor, 0)
        if len(self._stack) > DEPTH_MAX:
            raise BadYaml(f"nested deeper than {DEPTH_MAX} levels")

    def _known(self, anchor: str | None) -> int:
        if anchor is None or anchor not in self._anchors:
            raise BadYaml(f"the alias *{anchor} is not defined before")
        if not self._anchors[anchor]:
            raise BadYaml(f"the alias *{anchor} contains itself")
        return self._anchors[anchor]

    def _scalar(self, event: Any) -> None:
        value, inside = event.value, self._stack[-1]
        if len(value) > DIGITS_MAX and not value.strip("+-0123456789_"):
            raise BadYaml(f"a number of more than {DIGITS_MAX:,} digits")
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise BadYaml("half of a surrogate pair is no character")
        if inside.mapping and not inside.items % 2:
            if value in inside.keys and value != "<<":
                raise BadYaml(f"the key {value!r} stands twice")
            inside.keys.add(value)
        self._name(event.anchor, 1)
        self._add(1)

    def _name(self, anchor: str | None, nodes: int) -> None:
        if anchor:
            self._anchors[anchor] = nodes

    def _add(self, nodes: int) -> None:
        inside = self._stack[-1]
        inside.items += 1
        inside.nodes += nodes
        if inside.nodes > NODES_MAX:
            raise BadYaml(f"more than {NODES_MAX:,} values, aliases expanded")


def _judge(path: Path, text: str) -> None:
    judge, parse = _Judge(), cast(Any, yaml.parse)
    for event in parse(text, Loader=yaml.SafeLoader):
        try:
            judge.check(event)
        except BadYaml as error:
            raise BadYaml(f"{path}:{event.start_mark.line + 1}: {error}") from None


def _fault_line(text: str) -> int:
    """The line of the first value that can't be built."""
    loader: Any = yaml.SafeLoader(text)
    waiting = [loader.get_single_node()]
    while waiting:
        node = waiting.pop()
        if isinstance(node, yaml.MappingNode):
            waiting += [each for pair in reversed(node.value) for each in reversed(pair)]
        elif isinstance(node, yaml.SequenceNode):
            waiting += reversed(node.value)
        else:
            try:
                loader.construct_object(node)
            except (ValueError, OverflowError):
                return int(node.start_mark.line) + 1
    return 1
