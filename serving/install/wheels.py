"""Wheel files: writes one without code, and extracts files from others."""

import base64
import hashlib
import zipfile
from pathlib import Path


def write_metadata_wheel(folder: Path, name: str, version: str, *, requires: str) -> Path:
    """A wheel without code, which makes `name` count as installed at `version`. Returns its path."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        f"Summary: placeholder for {requires}\nRequires-Dist: {requires}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: wattfront\nRoot-Is-Purelib: true\n"
        "Tag: py3-none-any\n",
    }
    rows = [f"{path},sha256={_digest(text)},{len(text.encode())}" for path, text in files.items()]
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for member, text in files.items():
            wheel.writestr(member, text)
        wheel.writestr(f"{info}/RECORD", "\n".join([*rows, f"{info}/RECORD,,"]) + "\n")
    return path


def extract(wheel: Path, member: str, to: Path) -> None:
    """Writes the first member whose name ends with `member` to the path `to`. KeyError if there is none."""
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.endswith(member)]
        if not names:
            raise KeyError(f"{wheel.name} has no {member}")
        with archive.open(names[0]) as source, to.open("wb") as target:
            while block := source.read(1 << 20):
                target.write(block)


def _digest(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
