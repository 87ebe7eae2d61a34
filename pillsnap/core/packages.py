"""Versions of the packages and GPU libraries that results depend on, read without importing any."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version

# Distribution names of what the gate itself runs on, by the name in the report. An engine's stand
# in its entry.
PACKAGES: dict[str, Sequence[str]] = {
    "pillsnap": ("pillsnap",),
    "onnx": ("onnx",),
    "numpy": ("numpy",),
    "pillow": ("pillow",),
    "opencv": (
        "opencv-python-headless",
        "opencv-python",
        "opencv-contrib-python",
        "opencv-contrib-python-headless",
    ),
    "pycocotools": ("pycocotools",),
    "pytest": ("pytest",),
}


# The same of GPU libraries that pip can install, and what tells the version of one that the system
# has: the library, its function, and what a step of each part of the version adds to its number.
GPU_LIBRARIES = {
    "cuda": (
        ("nvidia-cuda-runtime", "nvidia-cuda-runtime-cu12"),
        ("libcudart.so", "cudaRuntimeGetVersion", (1000, 10)),
    ),
    "cudnn": (
        ("nvidia-cudnn-cu13", "nvidia-cudnn-cu12"),
        ("libcudnn.so.9", "cudnnGetVersion", (10000, 100, 1)),
    ),
    "tensorrt": (
        ("tensorrt-cu13", "tensorrt-cu12", "tensorrt"),
        ("libnvinfer.so.10", "getInferLibVersion", (10000, 100, 1)),
    ),
}


def package_version(name: str) -> str | None:
    """Version of one of PACKAGES; None where it is not installed."""
    return installed_version(PACKAGES[name])


def gpu_library_version(name: str) -> str | None:
    """Version of one of GPU_LIBRARIES, of pip's or else the system's; None where there is none."""
    distributions, (file, function, steps) = GPU_LIBRARIES[name]
    found = installed_version(distributions)
    if found is not None:
        return found
    try:
        ask = getattr(ctypes.CDLL(file), function)
    except (OSError, AttributeError):
        return None
    if name == "cuda":  # answers by its argument
        answer = ctypes.c_int()
        ask(ctypes.byref(answer))
        number = answer.value
    else:
        number = ask()
    return version_text(number, steps)


def version_text(number: int, steps: Sequence[int]) -> str:
    """91002 by steps of 10000, 100 and 1 is 9.10.2."""
    parts = []
    for step in steps:
        parts.append(str(number // step))
        number %= step
    return ".".join(parts)


def installed_version(distributions: Sequence[str]) -> str | None:
    """Version of the first distribution that is installed; None where none is."""
    return next(iter(installed(distributions).values()), None)


def installed(distributions: Sequence[str]) -> dict[str, str]:
    """Versions of those that are installed, by name, in this order."""
    found = {}
    for distribution in distributions:
        with suppress(PackageNotFoundError):
            found[distribution] = version(distribution)
    return found
