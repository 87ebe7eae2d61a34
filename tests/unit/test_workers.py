"""How many threads and workers a machine bears."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pillsnap.errors import ConfigError
from pillsnap.workers import MIB_PER_GPU_WORKER, thread_count, workers_for_gpu


def test_threads_are_the_option_or_a_share_of_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    assert [thread_count(None, workers) for workers in (0, 1, 2, 3, 8, 20)] == [8, 8, 4, 2, 1, 1]
    assert thread_count(3, 8) == 3
    # What is configured stands for every process; the option wins over it.
    assert [thread_count(None, workers, 5) for workers in (1, 8)] == [5, 5]
    assert thread_count(3, 8, 5) == 3
    assert thread_count(None, 2, 0) == 4
    for wrong in (0, -1):
        with pytest.raises(ConfigError, match=r"(?s)--threads must be a positive number.*1 or mor"):
            thread_count(wrong, 1)


Gpu = Callable[..., None]


@pytest.fixture
def gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Gpu:
    """Puts a machine of many cores and a GPU with that much free memory in place."""

    def install(*free_mib: int, cores: int = 64) -> None:
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        lines = "\n".join(map(str, free_mib))
        script = f"#!{sys.executable}\nprint({lines!r})\n"
        (folder / "nvidia-smi").write_text(script)
        (folder / "nvidia-smi").chmod(0o755)
        monkeypatch.setenv("PATH", str(folder))
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)))

    return install


def test_workers_share_the_memory_of_the_gpu(gpu: Gpu) -> None:
    for free, workers in (
        (0, 1),  # one may be enough: it is the run that says if it does not fit
        (MIB_PER_GPU_WORKER - 1, 1),
        (2 * MIB_PER_GPU_WORKER - 1, 1),
        (2 * MIB_PER_GPU_WORKER, 2),
        (80 * 1024, 20),
    ):
        gpu(free)
        assert workers_for_gpu(None, None) == workers
    gpu(80 * 1024, cores=6)
    assert workers_for_gpu(None, None) == 6
    gpu(3 * MIB_PER_GPU_WORKER, 80 * 1024)  # the first one is the one that is used
    assert workers_for_gpu(None, None) == 3


@pytest.mark.parametrize(
    ("providers", "engines", "limited"),
    [
        (None, None, True),
        (["auto"], ["onnx"], True),
        (["cuda"], ["torch"], True),
        (["cpu", "cuda"], None, True),
        (["cpu"], None, False),
        (["cpu", "cpu"], ["onnx", "torch"], False),
        (None, ["tensorrt"], True),
        (["tensorrt"], ["onnx"], True),
        (["tensorrt"], ["onnx", "tensorrt"], True),
        (["cpu"], ["onnx", "tensorrt"], True),  # select refuses it, in words
    ],
)
def test_workers_are_limited_where_a_candidate_runs_on_the_gpu(
    gpu: Gpu, providers: list[str] | None, engines: list[str] | None, limited: bool
) -> None:
    gpu(3 * MIB_PER_GPU_WORKER)
    assert workers_for_gpu(providers, engines) == (3 if limited else None)


def test_without_a_gpu_workers_are_not_limited_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for providers in (None, ["cuda"], ["cpu"]):
        assert workers_for_gpu(providers, ["onnx", "tensorrt"]) is None
