"""The source of a framework in a container image: read by the image's Python, which imports nothing of it."""

import json
import secrets
import shutil
from collections.abc import Mapping

from serving.errors import LaunchError
from serving.process.containers.config import LABELLED
from serving.process.containers.finish import Answer, Silent, call

READ_S = 600.0  # for a container that reads some hundred files
# Prints what `READ` of source.py names of the first of these packages that the image has.
SCRIPT = """
import importlib.metadata as m, importlib.util as u, json, pathlib, sys
packages, read = json.loads(sys.argv[1]), json.loads(sys.argv[2])
for name, package in packages.items():
    try:
        version = m.version(name)
    except m.PackageNotFoundError:
        continue
    spec = u.find_spec(package)
    root = pathlib.Path(spec.submodule_search_locations[0]).parent
    paths = {p.relative_to(root).as_posix(): p for p in root.glob(package + "/**/*.py")}
    wanted = {name: p for name, p in paths.items() if name.startswith(tuple(read[package]))}
    files = {name: p.read_text(errors="replace") for name, p in wanted.items()}
    print(json.dumps({"package": package, "version": version, "files": files}))
    break
"""


def read_image(
    image: str, packages: Mapping[str, str], read: Mapping[str, object]
) -> tuple[str, str, dict[str, str]] | None:
    """Package, version and files; None where no docker or podman of this machine has the image.

    `packages`: names of distributions → the package in each. Raises LaunchError.
    """
    for runtime in sorted(LABELLED):
        client = shutil.which(runtime)
        try:
            if client is None or call(client, "image", "inspect", image).code:
                continue
            said = _run(client, image, json.dumps(dict(packages)), json.dumps(dict(read)))
        except Silent as silent:
            raise LaunchError(str(silent)) from silent
        if said.code:
            raise LaunchError(f"{image}: its Python does not run: {said.last_line}")
        return _parsed(image, said.out)
    return None


def _run(client: str, image: str, *arguments: str) -> Answer:
    name = f"wattfront-schema-{secrets.token_hex(8)}"
    options = [
        "--rm",
        "--name",
        name,
        "--network",
        "none",
        "--pull",
        "never",
        "--entrypoint",
        "python3",
    ]
    try:
        return call(client, "run", *options, image, "-c", SCRIPT, *arguments, within_s=READ_S)
    except Silent:
        call(client, "rm", "--force", name)
        raise


def _parsed(image: str, text: str) -> tuple[str, str, dict[str, str]]:
    lines = [line for line in text.splitlines() if line.startswith("{")]
    try:
        found = json.loads(lines[-1])
        return str(found["package"]), str(found["version"]), {**found["files"]}
    except (LookupError, ValueError, TypeError) as error:
        raise LaunchError(
            f"{image}: its Python has none of vLLM, SGLang and TensorRT-LLM"
        ) from error
