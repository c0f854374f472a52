"""Packages and versions of the engines, as the extras of the installed distribution declare them.

`python -m serving.install.requirements EXTRA` prints them, a line each.
"""

import sys
from importlib.metadata import PackageNotFoundError, requires

from packaging.requirements import Requirement

from serving.errors import LaunchError

DISTRIBUTION = "wattfront"


def of_extra(extra: str) -> tuple[Requirement, ...]:
    """What the extra adds to the distribution's own requirements, without markers.

    Raises LaunchError if the distribution is not installed or has no such extra.
    """
    try:
        declared = [Requirement(line) for line in requires(DISTRIBUTION) or ()]
    except PackageNotFoundError as error:
        raise LaunchError(
            f"{DISTRIBUTION} is not installed, so the versions of its engines are unknown: "
            "run `pip install -e .` in its folder"
        ) from error
    found = [each for each in declared if _only_in(each, extra)]
    if not found:
        raise LaunchError(
            f"the installed {DISTRIBUTION} has no extra {extra}: reinstall it, its metadata is older "
            "than its code"
        )
    for requirement in found:
        requirement.marker = None
    return tuple(found)


def of_version(extra: str, version: str) -> tuple[Requirement, ...]:
    """As `of_extra`, with this version in place of the pinned one. Raises LaunchError."""
    pinned, _ = _pinned(extra)
    return tuple(
        Requirement(f"{each.name}=={version}") if each.name == pinned else each
        for each in of_extra(extra)
    )


def pinned_version(extra: str) -> str:
    """The version of the one package that the extra pins with `==`. Raises LaunchError."""
    return _pinned(extra)[1]


def pinned_package(extra: str) -> str:
    """The name of that package. Raises LaunchError."""
    return _pinned(extra)[0]


def _pinned(extra: str) -> tuple[str, str]:
    pins = [
        (each.name, spec.version)
        for each in of_extra(extra)
        for spec in each.specifier
        if spec.operator == "=="
    ]
    if len(pins) != 1:
        raise LaunchError(f"the extra {extra} of {DISTRIBUTION} pins {len(pins)} packages, not 1")
    return pins[0]


def _only_in(requirement: Requirement, extra: str) -> bool:
    marker = requirement.marker
    return (
        marker is not None
        and marker.evaluate({"extra": extra})
        and not marker.evaluate({"extra": ""})
    )


if __name__ == "__main__":
    sys.stdout.writelines(f"{each}\n" for each in of_extra(sys.argv[1]))
