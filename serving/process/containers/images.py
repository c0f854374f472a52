"""Whether a node has an image, fetching it, and which one it is. Every question has a deadline."""

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from serving.errors import ContainerFailed, ServingError
from serving.process.containers.command import CLIENT
from serving.process.containers.config import LABELLED, PYXIS, Container
from serving.process.containers.finish import Answer, Silent, call
from serving.process.environ import inherited
from serving.process.home import home
from serving.process.process import supervised

ANSWER_S = 20.0  # for a runtime to say whether it has an image
POLL_S = 0.1
DAEMON = "Start or restart the runtime's daemon on this node, and see that this account may use it."
FETCH = "Fetch the image on this node before the study, or allow it: container.pull=missing."


@dataclass(frozen=True, slots=True)
class Image:
    """An image that the node has. `name`: as the runtime's command takes it. `digest`: None: it has none."""

    name: str
    digest: str | None = None


def ask(client: str, *words: str, within_s: float = ANSWER_S) -> Answer:
    """What a runtime's command says. Raises ContainerFailed where it does not end in time."""
    try:
        return call(client, *words, within_s=within_s, environ=inherited(os.environ, CLIENT))
    except Silent as silent:
        raise ContainerFailed(str(silent), remedy=DAEMON) from silent


def find(container: Container, client: str) -> Image | None:
    """The image, if this node has it. Raises ContainerFailed where the runtime does not answer."""
    if container.runtime not in LABELLED:
        path = local_path(container)
        return Image(str(path)) if path.exists() else None
    answer = ask(client, "image", "inspect", container.image)
    if answer.code:
        if _unreachable(answer, client):
            raise ContainerFailed(f"{container.runtime}: {answer.last_line}", remedy=DAEMON)
        return None
    return Image(container.image, _digest(answer.out))


def _unreachable(answer: Answer, client: str) -> bool:
    """Whether it was not the image that was missing: then the runtime can't say its own version either."""
    return ask(client, "version").code != 0


def _digest(text: str) -> str | None:
    """`NAME@sha256:…` of an image from a registry, else its id."""
    try:
        facts = json.loads(text)[0]
    except (ValueError, LookupError, TypeError):
        return None
    if not isinstance(facts, Mapping):
        return None
    digests = facts.get("RepoDigests")
    first = digests[0] if isinstance(digests, list) and digests else facts.get("Id")
    return first if isinstance(first, str) else None


def local_path(container: Container) -> Path:
    """The file of an image of apptainer, enroot or pyxis: as configured, or where it is fetched to."""
    if container.is_file:
        return Path(container.image)
    end = ".sif" if container.runtime == "apptainer" else ".sqsh"
    name = container.image.removeprefix("docker://")
    return home() / "images" / ("".join(c if c.isalnum() or c in ".-" else "+" for c in name) + end)


def fetch_command(container: Container, client: str, path: Path) -> list[str]:
    """Fetches the image; those of apptainer, enroot and pyxis into a file."""
    if container.runtime in LABELLED:
        return [client, "pull", container.image]
    scheme, name = "docker://", container.image
    if "://" in name:
        scheme, _, name = name.partition("://")
        scheme += "://"
    if container.runtime == "apptainer":
        return [client, "pull", "--force", str(path), f"{scheme}{name}"]
    registry, slash, rest = name.partition("/")
    if slash and "#" not in name and (set(".:") & set(registry) or registry == "localhost"):
        name = f"{registry}#{rest}"  # as enroot writes it
    return [client, "import", "--output", str(path), f"{scheme}{name}"]


def ready(
    container: Container,
    client: str,
    log: Path,
    explained: Callable[[int | None], ServingError],
) -> Image:
    """The image on this node, fetched if it has to be. `log`: gets what the runtime prints meanwhile.

    `explained`: the error for the exit code of a fetch that failed, by that log. Raises ServingError.
    """
    found = (
        None if container.pull == "always" and not container.is_file else find(container, client)
    )
    if found is not None:
        return found
    if container.pull == "never" or container.is_file:
        raise ContainerFailed(
            f"image {container.image} is not on this node ({container.runtime}, pull: {container.pull})",
            log,
            remedy=FETCH,
        )
    if container.runtime == PYXIS:
        client = _importer(container, log)
    path = local_path(container)
    part = path.with_name(f".{os.getpid()}-{path.name}")
    if container.runtime not in LABELLED:
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        code = _fetched(container, fetch_command(container, client, part), log)
        if code != 0:
            raise explained(code)
        if container.runtime not in LABELLED:
            part.rename(path)
    finally:
        part.unlink(missing_ok=True)
    if (fetched := find(container, client)) is None:
        raise ContainerFailed(
            f"{container.runtime} fetched {container.image}, but does not have it", log
        )
    return fetched


def _importer(container: Container, log: Path) -> str:
    """The command of enroot, which pyxis runs. Raises ContainerFailed."""
    found = shutil.which("enroot")
    if found is None:
        raise ContainerFailed(
            f"enroot, which fetches {container.image} for pyxis, is not on PATH of this node: fetch it "
            "yourself, and name the path of the .sqsh",
            log,
            remedy=FETCH,
        )
    return found


def _fetched(container: Container, command: list[str], log: Path) -> int | None:
    """The exit code. The command ends with its owner."""
    deadline = time.monotonic() + container.pull_timeout_s
    with supervised(command, {}, log, inherits=CLIENT) as process:
        while process.alive():
            if time.monotonic() > deadline:
                raise ContainerFailed(
                    f"{container.runtime} did not fetch {container.image} within "
                    f"{container.pull_timeout_s:g} s (container.pull_timeout_s)",
                    log,
                    remedy=FETCH,
                )
            time.sleep(POLL_S)
        while process.exit_code() is None and time.monotonic() < deadline:
            time.sleep(POLL_S)
        return process.exit_code()
