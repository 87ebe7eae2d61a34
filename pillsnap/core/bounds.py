"""Versions that pillsnap was seen to work with: the bounds of its own metadata, extras included.

pip holds what it installs to them. What a team has installed before, and no requirement names, it
does not look at.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, requires
from typing import TYPE_CHECKING

from pillsnap.core.packages import installed

if TYPE_CHECKING:
    from packaging.specifiers import SpecifierSet

# Extras of what every run needs.
_EXTRAS = ("cpu", "detection", "gpu", "headless")


def read_bounds() -> dict[str, SpecifierSet]:
    """Versions that pillsnap asks for by name of the distribution; {} where it is not installed."""
    from packaging.requirements import Requirement

    try:
        asked = map(Requirement, requires("pillsnap") or ())
    except PackageNotFoundError:
        return {}
    return {
        each.name: each.specifier
        for each in asked
        if each.marker is None or any(each.marker.evaluate({"extra": extra}) for extra in _EXTRAS)
    }


def find_misfits(distributions: Sequence[str], bounds: dict[str, SpecifierSet]) -> list[str]:
    """In words, each of these that is installed in a version outside the bounds.

    Args:
        distributions: of one package. One that has no bounds has those of another.
    """
    usual = next((bounds[name] for name in distributions if name in bounds), None)
    found = []
    for name, version in installed(distributions).items():
        wanted = bounds.get(name, usual)
        if wanted is not None and not wanted.contains(version, prereleases=True):
            found.append(f"{name} {version} is installed, pillsnap needs {wanted}")
    return found
