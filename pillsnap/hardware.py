"""What the machine has, without importing any library that uses it."""

from __future__ import annotations

import platform
import shutil
import subprocess
from functools import cache
from pathlib import Path


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
def gpu_name() -> str | None:
    """Name and driver of the first GPU; None where there is none."""
    rows = _nvidia_smi("name,driver_version")
    return rows[0] if rows else None


def gpu_free_mib() -> int | None:
    """Free memory of the first GPU in MiB; None where there is none."""
    rows = _nvidia_smi("memory.free", "nounits")
    return int(rows[0]) if rows and rows[0].isdecimal() else None


def gpu_used_mib() -> int | None:
    """Used memory of the first GPU in MiB; None where there is none."""
    rows = _nvidia_smi("memory.used", "nounits")
    return int(rows[0]) if rows and rows[0].isdecimal() else None


def _nvidia_smi(query: str, *form: str) -> list[str]:
    """A line per GPU, as nvidia-smi gives it."""
    if shutil.which("nvidia-smi") is None:
        return []
    command = ["nvidia-smi", f"--query-gpu={query}", ",".join(("--format=csv,noheader", *form))]
    try:
        answer = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in answer.stdout.splitlines() if line.strip()]
