"""Versions and hardware, without importing any of the libraries."""

from __future__ import annotations

import os
import platform
from typing import Any

from pillsnap.hardware import cpu_name, gpu_name
from pillsnap.versions import PACKAGES, package_version


def describe_environment(threads: int) -> dict[str, Any]:
    """Python, packages, CPU and GPU; what is not there is null."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "threads": threads,
        "gpu": gpu_name(),
        "packages": {name: package_version(name) for name in PACKAGES},
    }
