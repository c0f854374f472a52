"""The cache of Hugging Face's libraries on this node: where a model's files are, and which were checked."""

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from pydantic import BaseModel, ConfigDict, ValidationError

from serving.install.hub.client import COMMIT, FetchError, ModelFile
from serving.process import home

OWN = ".wattfront"
DEFAULT_REVISION = "main"
BLOCK = 4 << 20
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
# Not read where there are safetensors: the same weights in other formats.
_OTHER_WEIGHTS = (
    ".bin",
    ".pt",
    ".pth",
    ".ckpt",
    ".h5",
    ".msgpack",
    ".onnx",
    ".gguf",
    ".ot",
    ".tflite",
)
_OTHER_FOLDERS = frozenset({"original", "onnx", "openvino", "coreml", "metal"})
_WEIGHTS = (".safetensors", *_OTHER_WEIGHTS)


class Checked(BaseModel):
    """A model at a commit: its files, and of each blob that was checked its size and time of change."""

    model_config = ConfigDict(frozen=True)

    commit: str
    files: tuple[ModelFile, ...]
    blobs: Mapping[str, tuple[int, int]] = {}


def is_hub_id(source: str) -> bool:
    """Whether a model's source is ORG/NAME, and no path that is here."""
    return bool(_HUB_ID.fullmatch(source)) and not Path(source).exists()


def is_offline(environ: Mapping[str, str]) -> bool:
    """Whether HF_HUB_OFFLINE forbids to ask the hub."""
    named = environ.get("HF_HUB_OFFLINE") or environ.get("TRANSFORMERS_OFFLINE") or ""
    return named.upper() in {"1", "ON", "YES", "TRUE"}


def read_by_engines(files: Sequence[ModelFile], *, weights: bool) -> tuple[ModelFile, ...]:
    """The files that an engine loads; `weights`: False where it makes random ones."""
    safe = any(each.name.endswith(".safetensors") for each in files)
    kept = []
    for each in files:
        path = PurePosixPath(each.name)
        apart = safe and (path.suffix in _OTHER_WEIGHTS or path.parts[0] in _OTHER_FOLDERS)
        if not apart and (weights or path.suffix not in _WEIGHTS):
            kept.append(each)
    return tuple(kept)


@dataclass(frozen=True, slots=True)
class ModelCache:
    """One model in the cache that an environment names."""

    model: str
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)

    @property
    def root(self) -> Path:
        """Of all models."""
        return home.hub_cache(self.environ)

    @property
    def folder(self) -> Path:
        """Of this one."""
        return self.root / f"models--{self.model.replace('/', '--')}"

    def commit(self, revision: str | None) -> str | None:
        """To which commit a revision was resolved last; None: never."""
        name = revision or DEFAULT_REVISION
        if COMMIT.fullmatch(name):
            return name
        try:
            found = self._ref(name).read_text().strip()
        except (OSError, ValueError):
            return None
        return found if COMMIT.fullmatch(found) else None

    def _ref(self, revision: str) -> Path:
        path = PurePosixPath(revision)
        if path.is_absolute() or ".." in path.parts or not path.parts:
            raise FetchError(
                f"{self.model}: {revision!r} is no revision: a branch, a tag or a commit"
            )
        return self.folder / "refs" / path

    def commits(self) -> list[str]:
        """Those that have a folder here, whole or not."""
        return sorted(
            each.name for each in self.snapshot("").glob("*") if COMMIT.fullmatch(each.name)
        )

    def resolve(self, revision: str | None, commit: str) -> None:
        """Notes the commit of a revision."""
        name = revision or DEFAULT_REVISION
        path = self._ref(name)
        if not COMMIT.fullmatch(name) and self.commit(revision) != commit:
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_name(f".{path.name}.{os.getpid()}")
            part.write_text(commit)
            part.rename(path)

    def blob(self, file: ModelFile) -> Path:
        """Where its content is."""
        return self.folder / "blobs" / file.etag

    def partial(self, file: ModelFile) -> Path:
        """Where its content is while it arrives."""
        return self.folder / "blobs" / f"{file.etag}.wattfront-incomplete"

    def snapshot(self, commit: str) -> Path:
        """The model's folder at a commit."""
        return self.folder / "snapshots" / commit

    def link(self, file: ModelFile, commit: str) -> None:
        """Puts a file's content under its name."""
        path = self.snapshot(commit) / file.name
        target = os.path.relpath(self.blob(file), path.parent)
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_symlink() and os.readlink(path) == target:  # noqa: PTH115  (the text, not the path)
            return
        part = path.with_name(f".{path.name}.{os.getpid()}")
        part.unlink(missing_ok=True)
        part.symlink_to(target)
        part.rename(path)

    def checked(self, commit: str) -> Checked | None:
        """What was noted of a commit; None: nothing, or it can't be read."""
        try:
            return Checked.model_validate_json((self.folder / OWN / f"{commit}.json").read_bytes())
        except (OSError, ValidationError):
            return None

    def note(self, checked: Checked) -> None:
        """Keeps what was checked."""
        path = self.folder / OWN / f"{checked.commit}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{os.getpid()}")
        part.write_text(checked.model_dump_json(by_alias=True))
        part.rename(path)

    def stamp(self, file: ModelFile) -> tuple[int, int] | None:
        """Size and time of change of a file's content; None: it is not here."""
        try:
            found = self.blob(file).stat()
        except OSError:
            return None
        return found.st_size, found.st_mtime_ns

    def complete(self, revision: str | None, *, weights: bool = True) -> str | None:
        """The commit of a revision all of whose files are here and were checked; else None."""
        commit = self.commit(revision)
        checked = None if commit is None else self.checked(commit)
        if checked is None:
            return None
        for each in read_by_engines(checked.files, weights=weights):
            stamp = self.stamp(each)
            if stamp is None or stamp != checked.blobs.get(each.etag):
                return None
            if not (self.snapshot(checked.commit) / each.name).is_file():
                return None
        return checked.commit


def cached_models(environ: Mapping[str, str]) -> list[str]:
    """The models that have a folder in the cache."""
    folders = sorted(each.name for each in home.hub_cache(environ).glob("models--*--*"))
    return [name.removeprefix("models--").replace("--", "/", 1) for name in folders]


def digest_of(file: ModelFile) -> "hashlib._Hash":
    """The hash that its etag is of, before its content."""
    if file.lfs is not None:
        return hashlib.sha256()
    return hashlib.sha1(f"blob {file.size}\0".encode(), usedforsecurity=False)


def hashed(file: ModelFile, path: Path) -> "hashlib._Hash":
    """The hash of what a path holds of it."""
    digest = digest_of(file)
    with path.open("rb") as content:
        while block := content.read(BLOCK):
            digest.update(block)
    return digest
