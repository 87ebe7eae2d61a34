"""CPUs that a process may use: its affinity, and the quotas of the cgroups around it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pillsnap.core.cpus import usable_cpus

AFFINITY = 8


@pytest.fixture(autouse=True)
def _eight_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(AFFINITY)))


def process(proc: Path, groups: str, *mounts: str) -> int:
    """usable_cpus of a process in these groups (/proc/self/cgroup), where {}/<name> are mounted."""
    (proc / "cgroup").write_text(groups)
    lines = ["24 1 0:21 / /proc rw - proc  rw", *mounts]
    (proc / "mountinfo").write_text("".join(line.format(proc) + "\n" for line in lines))
    return usable_cpus(proc)


def unified(proc: Path, quotas: dict[str, str], group: str, root: str = "/") -> int:
    """usable_cpus in a group of version 2."""
    for name, text in quotas.items():
        folder = proc / "unified" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cpu.max").write_text(text + "\n")
    mount = f"30 23 0:26 {root} {{}}/unified rw - cgroup2 cgroup2 rw,nsdelegate"
    return process(proc, f"0::{group}\n", mount)


@pytest.mark.parametrize(
    ("quota", "cpus"),
    [
        ("100000 100000", 1),
        ("150000 100000", 2),  # rounded up
        ("10000 100000", 1),
        ("200000 50000", 4),
        ("1600000 100000", AFFINITY),
        ("max 100000", AFFINITY),
        ("", AFFINITY),
    ],
)
def test_a_quota_is_the_limit(tmp_path: Path, quota: str, cpus: int) -> None:
    assert unified(tmp_path, {"": quota}, "/") == cpus


def test_the_smallest_quota_of_the_group_and_those_above_holds(tmp_path: Path) -> None:
    quotas = {"kube": "300000 100000", "kube/pod": "max 100000", "kube/pod/job": "500000 100000"}
    assert unified(tmp_path, quotas, "/kube/pod/job") == 3
    assert unified(tmp_path, {"kube/pod/job": "200000 100000"}, "/kube/pod/job") == 2
    assert unified(tmp_path, {}, "/other") == AFFINITY


def test_a_container_may_be_told_the_hosts_path(tmp_path: Path) -> None:
    quotas = {"": "200000 100000", "inner": "100000 100000"}
    assert unified(tmp_path, quotas, "/docker/abc", root="/docker/abc") == 2
    assert unified(tmp_path, quotas, "/docker/abc/inner", root="/docker/abc") == 1
    assert unified(tmp_path, quotas, "/docker/abc") == 2
    assert unified(tmp_path, quotas, "/../../docker/abc") == 2


def test_version_1_has_its_own_files(tmp_path: Path) -> None:
    job = tmp_path / "cpu" / "job"
    job.mkdir(parents=True)
    (job / "cpu.cfs_period_us").write_text("100000\n")
    groups = "4:cpuset:/job\n2:cpu,cpuacct:/job\n0::/job\n"
    mounts = (
        "31 23 0:28 / {}/cpuset rw - cgroup cgroup rw,cpuset",
        "32 23 0:29 / {}/cpu rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct",
    )
    for quota, cpus in (("250000", 3), ("-1", AFFINITY)):
        (job / "cpu.cfs_quota_us").write_text(quota + "\n")
        assert process(tmp_path, groups, *mounts) == cpus
    (tmp_path / "cpu/cpu.cfs_period_us").write_text("50000")
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text("100000")
    assert process(tmp_path, groups, *mounts) == 2


def test_without_cgroups_the_affinity_is_all(tmp_path: Path) -> None:
    assert usable_cpus(tmp_path) == AFFINITY
    assert process(tmp_path, "") == AFFINITY


@pytest.mark.parametrize(
    ("mount", "quota"),
    [("", "1"), ("29 23 0:26", "1"), ("no words of it - ", "1"), (None, ""), (None, "max")],
)
def test_what_a_kernel_says_otherwise_is_no_quota(
    tmp_path: Path, mount: str | None, quota: str
) -> None:
    cpus = len(os.sched_getaffinity(0))
    group = tmp_path / "a group"
    group.mkdir()
    (group / "cpu.max").write_text("1 0")
    (group / "cpu.cfs_quota_us").write_text(quota)
    (group / "cpu.cfs_period_us").write_text("0")
    proc = tmp_path / "proc"
    proc.mkdir()
    (proc / "cgroup").write_text("odd\n0::/\n")
    point = str(group).replace(" ", "\\040")
    whole = f"29 23 0:26 / {point} rw - cgroup2 cgroup2 rw"
    (proc / "mountinfo").write_text(f"\n{whole if mount is None else mount}\n")
    assert usable_cpus(proc) == cpus
    if mount is None:  # blanks in a path are read
        (group / "cpu.max").write_text("1 1")
        assert usable_cpus(proc) == 1
