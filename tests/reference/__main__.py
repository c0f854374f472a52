"""`python -m tests.reference [--check]`: writes docs/reference/ and the picture of the architecture."""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.reference import commands, configuration, files, licences, metrics, picture
from tests.reference.markdown import page, table

ROOT = Path(__file__).parents[2]
FOLDER, PICTURE = "docs/reference", "docs/images/architecture.svg"
README = "Generated from the code by `make reference`; a test fails where a page is stale."
TITLES = {
    "configuration": "every configuration key and every option of `conf/`",
    "metrics": "every metric of an operating point",
    "commands": "the help texts of all commands",
    "exit_codes": "what a command reports to the shell",
    "files": "the folder of a study: ledger, records, power; and its runs in MLflow",
    "licences": "what is installed with Wattfront, and under which licence",
}


def pages() -> Mapping[str, str]:
    """Path in the repository → text."""
    made = {
        "README": page("Reference", README, table(("page", "contents"), _index())),
        "configuration": configuration.markdown(),
        "metrics": metrics.markdown(),
        "commands": commands.markdown(),
        "exit_codes": commands.exit_codes(),
        "files": files.markdown(),
        "licences": licences.markdown(),
    }
    return {f"{FOLDER}/{name}.md": text for name, text in made.items()} | {PICTURE: picture.svg()}


def stale() -> list[str]:
    """The pages that differ from what is in the repository, and pages there that nothing generates."""
    made = pages()
    there = {path.relative_to(ROOT).as_posix() for path in (ROOT / FOLDER).glob("*")}
    differ = [name for name, text in made.items() if _text(name) != text]
    return sorted([*differ, *(there - made.keys())])


def main() -> int:
    """Writes the pages, or with --check lists those that are stale."""
    parser = argparse.ArgumentParser(prog="python -m tests.reference", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if a page is stale")
    if parser.parse_args().check:
        found = stale()
        sys.stdout.writelines(f"{name} is stale: make reference\n" for name in found)
        return 1 if found else 0
    for name, text in pages().items():
        path = ROOT / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return 0


def _index() -> list[tuple[str, str]]:
    return [(f"[{name}.md]({name}.md)", text) for name, text in TITLES.items()]


def _text(name: str) -> str:
    path = ROOT / name
    return path.read_text(encoding="utf-8") if path.is_file() else ""


if __name__ == "__main__":
    sys.exit(main())
