"""Versions and hardware, without importing any of the libraries."""

from __future__ import annotations

import platform
from typing import Any

from pillsnap.config.runtime import Runtime
from pillsnap.core.alternatives import find_package_problems
from pillsnap.core.cpus import usable_cpus
from pillsnap.core.hardware import cpu_name, gpu_name
from pillsnap.core.packages import GPU_LIBRARIES, gpu_library_version
from pillsnap.engines import package_sources, package_versions


def describe_environment(threads: int, runtime: Runtime) -> dict[str, Any]:
    """Python, packages, CPU, the GPU that is used and its libraries; what is not there is null. And
    how ONNX Runtime was told to optimise."""
    gpu, _, driver = (gpu_name(runtime.cuda.device_id) or "").rpartition(", ")
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "cores": usable_cpus(),
        "threads": threads,
        "gpu": gpu or None,
        "driver": driver or None,
        **{name: gpu_library_version(name) for name in GPU_LIBRARIES},
        "packages": package_versions(),
        "distributions": package_sources(),
        "problems": find_package_problems(),
        "runtime": {
            "graph_optimization_level": runtime.graph_optimization_level,
            "disabled_optimizers": list(runtime.disabled_optimizers),
        },
    }
