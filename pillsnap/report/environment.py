"""Versions and hardware, without importing any of the libraries."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

# Distribution names by the name in the report; the first that is installed counts.
PACKAGES = {
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


def describe_environment(threads: int) -> dict[str, Any]:
    """Python, packages, CPU and GPU; what is not there is null."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "threads": threads,
        "gpu": _gpu(),
        "packages": {name: _version(candidates) for name, candidates in PACKAGES.items()},
    }


def _version(distributions: tuple[str, ...]) -> str | None:
    for name in distributions:
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return None


def _cpu() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or None
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, None) or platform.machine()


def _gpu() -> str | None:
    """Name and driver of the first GPU, as nvidia-smi gives them."""
    if shutil.which("nvidia-smi") is None:
        return None
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return (answer.stdout.splitlines() or [""])[0].strip() or None
