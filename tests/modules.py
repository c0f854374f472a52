"""The project's modules, and what each imports: read, not run."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = ("tuner", "serving", "loadgen")


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {name_of(path): path for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
TESTS = {name_of(path): path for path in (ROOT / "tests").rglob("*.py")}


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def imports(nodes: Iterator[ast.AST]) -> set[str]:
    """Every module that the nodes import; `from a import b` is a.b where that is a module of ours."""
    found = set[str]()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            wholes = [f"{module}.{alias.name}" for alias in node.names]
            found |= {whole if whole in SOURCES else module for whole in wholes}
    return found


def only_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def walk_at_run_time(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if not only_for_types(node):
            yield node
            yield from walk_at_run_time(node)
