"""An engine `tiny` of small wheels in a folder, installed by the real pip into folders that stand for venvs."""

import base64
import hashlib
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from serving.install import lock
from serving.install.packages import recipes
from serving.install.packages.recipes import Recipe
from serving.install.wheels import write_metadata_wheel

# `python -m venv FOLDER` of this one takes no seconds: the folder's Python is ours, its pip installs there.
PYTHON = """#!/bin/sh
if [ "$2" = venv ]; then
    mkdir -p "$3/bin"
    touch "$3/pyvenv.cfg"
    printf '#!/bin/sh\\nPIP_PREFIX=%s exec {real} "$@"\\n' "$3" > "$3/bin/python"
    chmod +x "$3/bin/python"
    exit
fi
exec {real} "$@"
"""


def write_engine_wheel(folder: Path, version: str, *, code: str = "") -> Path:
    """A wheel of `tiny`, whose command prints its version; it needs `tinydep`."""
    info, script = f"tiny-{version}.dist-info", f"tiny-{version}.data/scripts/tiny"
    files = {
        script: f"#!/bin/sh\necho tiny {version}\n{code}",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: tiny\nVersion: {version}\n"
        "Requires-Dist: tinydep>=1\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\n"
        "Tag: py3-none-any\n",
    }
    digests = {
        name: base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        for name, text in files.items()
    }
    rows = [f"{name},sha256={digests[name]},{len(files[name])}" for name in files]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"tiny-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in files.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = (0o100755 if name == script else 0o100644) << 16
            wheel.writestr(entry, text)
        wheel.writestr(f"{info}/RECORD", "\n".join([*rows, f"{info}/RECORD,,"]) + "\n")
    return path


def declare(folder: Path, requirements: Sequence[str]) -> None:
    """Stands for another build of wattfront, with these requirements."""
    info = folder / "wattfront-9.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    lines = ["Metadata-Version: 2.4", "Name: wattfront", "Version: 9"]
    lines += [f"Requires-Dist: {each}" for each in requirements]
    (info / "METADATA").write_text("\n".join(lines) + "\n")


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of wheels of tiny 1.0, which is pinned, 1.1 and 2.0; every index is out of reach."""
    folder = tmp_path / "wheels"
    for version in ("1.0", "1.1", "2.0"):
        write_engine_wheel(folder, version)
    write_metadata_wheel(folder, "tinydep", "1.5", requires='nothing; extra == "none"')
    python = tmp_path / "python"
    python.write_text(PYTHON.replace("{real}", sys.executable))
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setenv("WATTFRONT_HOME", str(tmp_path / "home"))
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "PIP_NO_INDEX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setattr(lock, "FOLDER", tmp_path / "locks")
    site = tmp_path / "site-packages"
    monkeypatch.syspath_prepend(str(site))
    declare(site, ["tiny==1.0; extra == 'tiny'"])
    recipe = Recipe("tiny", "vllm", "tiny", recipes._packages, "a test")
    for name in [*recipes.RECIPES]:
        monkeypatch.delitem(recipes.RECIPES, name)
    monkeypatch.setitem(recipes.RECIPES, "tiny", recipe)
    return folder
