"""`python -m tests.golden.record [PART …]`: writes the golden files of the checkout that it lies in.

Parts: studies, plans, mlflow, loadgen, exits, reports; all when left out. Studies that were recorded are
never written over: they are what an older version left. For new ones name a new folder (`cases.LIVE`).
"""

import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.golden import observe
from tests.golden.cases import MIRRORED, PLANS, STUDIES
from tests.golden.product import Product


def studies(product: Product, base: Path) -> None:
    if observe.GOLDEN.exists():
        sys.exit(f"{observe.GOLDEN} is there: name a new folder in cases.LIVE")
    for name in STUDIES:
        folder = _folder(base, name)
        observe.kept(observe.simulated(product, name, folder), observe.GOLDEN / name, folder)


def plans(product: Product, base: Path) -> dict[str, Any]:
    return {name: observe.planned(product, name, base) for name in PLANS}


def mlflow(product: Product, base: Path) -> dict[str, Any]:
    folder = _folder(base, MIRRORED)
    return observe.mirrored(observe.simulated(product, MIRRORED, folder, "--to-mlflow"))


def loadgen(product: Product, base: Path) -> dict[str, Any]:
    return observe.loaded(product, base)


def exits(product: Product, base: Path) -> dict[str, Any]:
    observe.place(base)
    return observe.exit_codes(product, base)


def reports(product: Product, base: Path) -> dict[str, Any]:
    observe.place(base)
    found = {name: observe.reported(product, name, base) for name in STUDIES}
    return {name: {"code": each["code"], "rows": each["rows"]} for name, each in found.items()}


PARTS: dict[str, Callable[[Product, Path], dict[str, Any] | None]] = {
    "studies": studies,
    "plans": plans,
    "mlflow": mlflow,
    "loadgen": loadgen,
    "exits": exits,
    "reports": reports,
}


def main(asked: Sequence[str]) -> None:
    if unknown := set(asked) - set(PARTS):
        sys.exit(f"there is no part {', '.join(sorted(unknown))}: {', '.join(PARTS)}")
    with tempfile.TemporaryDirectory() as made:
        base = Path(made).resolve()
        product = Product(base / "home")
        for part in asked or PARTS:
            sys.stdout.write(f"{part}\n")
            found = PARTS[part](product, _folder(base, part))
            if found is not None:
                text = json.dumps(found, indent=1, ensure_ascii=False)
                (observe.FOLDER / f"{part}.json").write_text(text + "\n")


def _folder(base: Path, name: str) -> Path:
    """A new one, also where a part uses the name of another."""
    return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=base))


if __name__ == "__main__":
    main(sys.argv[1:])
