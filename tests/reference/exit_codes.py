"""Exit codes of the commands: docs/reference/exit_codes.md."""

import ast
import inspect

import loadgen.__main__
from tests.reference.markdown import code, page, table
from tuner.cli.exit_codes import MEANINGS

INTRO = """Of several studies (`wattfront tune --multirun`) the highest code is reported."""
LOADGEN = {
    0: "done",
    1: "the endpoint can't be reached or fails, or the load ended before its last level",
    2: "invalid arguments or workload, or a file that can't be read or written",
    130: "interrupted",
}


def markdown() -> str:
    """The page."""
    return page(
        "Exit codes",
        "## wattfront",
        INTRO,
        table(
            ("code", "name", "meaning"), [(code(c.value), c.name, m) for c, m in MEANINGS.items()]
        ),
        "## python -m loadgen",
        table(("code", "meaning"), [(code(number), text) for number, text in LOADGEN.items()]),
    )


def returned_by_loadgen() -> set[int]:
    """The codes that stand in the load generator's `main`."""
    tree = ast.parse(inspect.getsource(loadgen.__main__.main))
    returned = [
        node.value for node in ast.walk(tree) if isinstance(node, ast.Return) and node.value
    ]
    return {
        constant.value
        for value in returned
        for constant in ast.walk(value)
        if isinstance(constant, ast.Constant) and isinstance(constant.value, int)
    }
