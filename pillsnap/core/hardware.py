"""What the machine has, without importing any library that computes on it."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

_MIB = 2**20


@cache
def cpu_name() -> str | None:
    """The processor's model."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or None
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, None) or platform.machine()


@cache
def gpu_name(device_id: int = 0) -> str | None:
    """Name and driver of a GPU, such as "Tesla T4, 570.133.20"; None where there is none.

    Args:
        device_id: CUDA's number of it. NVML goes by the bus, CUDA by speed unless CUDA_DEVICE_ORDER
            says otherwise: with cards of several kinds in one machine the two may differ.
    """
    return _ask_nvml(
        device_id,
        lambda nvml, gpu: f"{nvml.nvmlDeviceGetName(gpu)}, {nvml.nvmlSystemGetDriverVersion()}",
    )


def gpu_free_mib(device_id: int = 0) -> int | None:
    """Free memory of a GPU in MiB; None where there is none, or it does not tell."""
    return _ask_nvml(
        device_id, lambda nvml, gpu: int(nvml.nvmlDeviceGetMemoryInfo(gpu).free) // _MIB
    )


def gpu_process_mib(device_id: int = 0) -> float | None:
    """Memory in MiB that this process takes of a GPU.

    None where it takes none, or where the driver does not tell: in containers it may list processes
    by other numbers, or none.
    """

    def used(nvml: Any, gpu: Any) -> float | None:
        processes = nvml.nvmlDeviceGetComputeRunningProcesses(gpu)
        own = {process.pid: process.usedGpuMemory for process in processes}.get(os.getpid())
        return None if own is None else round(own / _MIB, 1)

    return _ask_nvml(device_id, used)


def _ask_nvml(device_id: int, question: Callable[[Any, Any], T]) -> T | None:
    """What is asked of NVIDIA's management library and its handle of a GPU; None without driver or
    GPU, and where the driver does not answer."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        return question(pynvml, _handle(pynvml, device_id))
    except (pynvml.NVMLError, ValueError, IndexError):
        return None
    finally:
        pynvml.nvmlShutdown()


def _handle(nvml: Any, device_id: int) -> Any:
    """The GPU that CUDA counts as `device_id` of those that it is shown."""
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    if shown is None:
        return nvml.nvmlDeviceGetHandleByIndex(device_id)
    name = shown.split(",")[device_id].strip()
    if name.startswith(("GPU-", "MIG-")):
        return nvml.nvmlDeviceGetHandleByUUID(name)
    return nvml.nvmlDeviceGetHandleByIndex(int(name))
