"""Packages that several distributions hold, as onnxruntime is in onnxruntime-gpu: pillsnap uses the
one that is there and requires none, since one laid over another breaks both.

Versions are held to the bounds of pillsnap's own metadata, extras included: at what a team has
installed before, and no requirement names, pip does not look.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires
from importlib.util import find_spec
from typing import TYPE_CHECKING

from pillsnap.core.errors import EngineError, EngineMissing
from pillsnap.core.packages import PACKAGES, installed

if TYPE_CHECKING:
    from packaging.specifiers import SpecifierSet

# Extras of what every run needs.
_EXTRAS = ("cpu", "detection", "gpu", "headless", "nncf", "openvino", "torch")


@dataclass(frozen=True)
class Alternatives:
    """A package of which one distribution is to be installed; `install` says how where none is."""

    module: str
    distributions: tuple[str, ...]
    install: str

    @property
    def is_there(self) -> bool:
        """Whether it can be found; what an uninstalled rival leaves of it is an empty folder."""
        spec = find_spec(self.module)
        return spec is not None and spec.origin is not None

    def require(self) -> None:
        """Refuse to go on without it; reads metadata alone.

        Raises:
            EngineMissing: it is not installed.
            EngineError: its version is outside pillsnap's bounds.
        """
        if not self.is_there:
            left = installed(self.distributions)
            again = " ".join(f"{name}=={version}" for name, version in left.items())
            raise EngineMissing(
                f"{self.module} is not installed",
                got=f"{again} by name, without its files" if left else None,
                hint=f"pip install --force-reinstall --no-deps {again}" if left else self.install,
            )
        misfits = find_misfits(self.distributions, read_bounds())
        if misfits:
            raise EngineError("; ".join(misfits), hint="install one that is within these bounds")

    def in_words_if_doubled(self) -> str | None:
        """What is wrong where several of its distributions are installed; else None."""
        found = [f"{name} {version}" for name, version in installed(self.distributions).items()]
        if len(found) < 2:
            return None
        return (
            f"{self.module} is installed {len(found)} times, each over the other's files: "
            f"{', '.join(found)}; uninstall all of them, then install one"
        )


ONNXRUNTIME = Alternatives(
    "onnxruntime",
    (
        "onnxruntime-gpu",
        "onnxruntime",
        "onnxruntime-directml",
        "onnxruntime-openvino",
        "onnxruntime-training",
    ),
    "pip install 'pillsnap[cpu]', or 'pillsnap[gpu]' for NVIDIA's GPUs, never both",
)
OPENCV = Alternatives(
    "cv2",
    tuple(PACKAGES["opencv"]),
    "pip install 'pillsnap[headless]', or opencv-python-headless where ultralytics is there",
)
ULTRALYTICS = Alternatives(
    "ultralytics",
    ("ultralytics-opencv-headless", "ultralytics"),
    "pip install 'pillsnap[detection]', or 'pillsnap[headless]' on servers, never both",
)
# Not of several, but as optional.
OPENVINO = Alternatives("openvino", ("openvino",), "pip install 'pillsnap[openvino]'")
NNCF = Alternatives("nncf", ("nncf",), "pip install 'pillsnap[nncf]'")
TORCH = Alternatives(
    "torch",
    ("torch",),
    "pip install 'pillsnap[torch]', or verify a golden bundle, which needs none: --reference",
)


def find_package_problems() -> list[str]:
    """In words: packages that are installed more than once, and versions outside the bounds.

    Reads metadata alone, a few milliseconds; imports no package.
    """
    bounds = read_bounds()
    several = (ONNXRUNTIME, OPENCV, ULTRALYTICS)
    doubled = [words for each in several if (words := each.in_words_if_doubled()) is not None]
    known = {name for each in several for name in each.distributions}
    groups = [each.distributions for each in several]
    groups += [(name,) for name in bounds if name not in known]
    return doubled + [misfit for group in groups for misfit in find_misfits(group, bounds)]


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
