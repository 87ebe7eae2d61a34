"""Versions of the packages that results depend on, read without importing them."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

# Distribution names by the name in the report; the first that is installed counts.
PACKAGES = {
    "pillsnap": ("pillsnap",),
    "torch": ("torch",),
    "timm": ("timm",),
    "ultralytics": ("ultralytics-opencv-headless", "ultralytics"),
    "onnx": ("onnx",),
    "onnxruntime": ("onnxruntime-gpu", "onnxruntime"),
    "numpy": ("numpy",),
    "pillow": ("pillow",),
    "opencv": ("opencv-python-headless", "opencv-python"),
    "pycocotools": ("pycocotools",),
    "pytest": ("pytest",),
}


def package_version(name: str) -> str | None:
    """Version of one of PACKAGES; None where it is not installed."""
    for distribution in PACKAGES[name]:
        try:
            return version(distribution)
        except PackageNotFoundError:
            continue
    return None
