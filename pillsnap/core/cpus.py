"""How many CPUs a process may use: its affinity, and the quota of the container that it is in; and
how busy the machine is."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def usable_cpus(proc: Path = Path("/proc/self")) -> int:
    """CPUs that this process may use, at least 1: those of its affinity, or fewer where its cgroup
    or one above has a quota, which is rounded up.

    A quota (docker --cpus, a limit of Kubernetes) leaves the affinity as it is.

    Args:
        proc: where the kernel tells of this process.
    """
    quotas = [math.ceil(quota) for folder in _groups(proc) for quota in _quotas(folder)]
    linux = hasattr(os, "sched_getaffinity")  # the pipeline as one file may run elsewhere
    cpus = len(os.sched_getaffinity(0)) if linux else os.cpu_count() or 1
    return max(1, min([cpus, *quotas]))


def machine_load() -> float | None:
    """Processes that ran or waited over the last minute, for each CPU of the machine, whoever's
    they are; None where the system does not tell."""
    try:
        return round(os.getloadavg()[0] / (os.cpu_count() or 1), 2)
    except OSError:
        return None


def _groups(proc: Path) -> Iterator[Path]:
    """Folders of the cgroups, of either version, that may limit this process's CPUs."""
    try:
        groups = (proc / "cgroup").read_text(errors="replace").splitlines()
        mounts = (proc / "mountinfo").read_text(errors="replace").splitlines()
    except OSError:
        return
    told = [group.split(":", 2) for group in groups]
    for mount in mounts:
        place, _, kind = mount.partition(" - ")
        root, point = [*place.split(" ")[3:5], "", ""][:2]
        words = kind.split(" ")
        system, options = words[0], words[-1]
        # As blanks in a path stand there.
        point = point.replace("\\040", " ")
        for _, controllers, path in (group for group in told if point and len(group) == 3):
            if _limits_cpus(controllers, system, options):
                # A container may be told the host's path, and is shown its own group alone.
                below = Path(path).relative_to(root) if Path(path).is_relative_to(root) else Path()
                yield from (Path(point, part) for part in (below, *below.parents))


def _limits_cpus(controllers: str, system: str, options: str) -> bool:
    """Whether a group lies in a mounted hierarchy that has quotas of CPUs."""
    if system == "cgroup2":
        return not controllers
    return system == "cgroup" and "cpu" in controllers.split(",") and "cpu" in options.split(",")


def _quotas(folder: Path) -> Iterator[float]:
    """The quota of a group in CPUs, if it has one: "max" and -1 are none."""
    with suppress(OSError, ValueError, ZeroDivisionError):
        quota, period = (folder / "cpu.max").read_text().split()
        yield int(quota) / int(period)
    with suppress(OSError, ValueError, ZeroDivisionError):
        quota_us = int((folder / "cpu.cfs_quota_us").read_text())
        if quota_us > 0:
            yield quota_us / int((folder / "cpu.cfs_period_us").read_text())
