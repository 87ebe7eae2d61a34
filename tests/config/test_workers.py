"""How many threads and workers a machine bears."""

from __future__ import annotations

import shutil
from typing import cast

import pytest

from pillsnap.config.runtime import Cuda, Runtime, Tensorrt
from pillsnap.core.errors import ConfigError
from pillsnap.core.workers import MIB_PER_GPU_WORKER, thread_count, workers_for_gpu
from pillsnap.engines import gpu_providers
from pillsnap.plugin import spreading
from tests.core.gpus import ask


def test_threads_are_the_option_or_a_share_of_the_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pillsnap.core.workers.usable_cpus", lambda: 8)
    assert [thread_count(None, workers) for workers in (0, 1, 2, 3, 8, 20)] == [8, 8, 4, 2, 1, 1]
    assert thread_count(3, 8) == 3
    # What is configured stands for every process; the option wins over it.
    assert [thread_count(None, workers, 5) for workers in (1, 8)] == [5, 5]
    assert thread_count(3, 8, 5) == 3
    assert thread_count(None, 2, 0) == 4
    for wrong in (0, -1):
        with pytest.raises(ConfigError, match=r"(?s)--threads must be a positive number.*1 or mor"):
            thread_count(wrong, 1)


needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")

MIB = 2**20


def gpu(free_mib: int) -> str:
    return f"A GPU,GPU-aa,{max(1, free_mib * MIB)},-"


def workers(call: str, *gpus: str) -> object:
    return ask(f"workers_for_gpu({call})", *gpus)


@needs_compiler
def test_workers_share_the_memory_of_the_gpu() -> None:
    for free, count in (
        (0, 1),  # one may be enough: it is the run that says if it does not fit
        (2 * MIB_PER_GPU_WORKER - 1, 1),
        (2 * MIB_PER_GPU_WORKER, 2),
        (80 * 1024, 20),
    ):
        assert workers("{'auto'}, Runtime().device_id", gpu(free)) == count


@needs_compiler
def test_it_is_the_gpu_that_is_configured() -> None:
    gpus = gpu(3 * MIB_PER_GPU_WORKER), gpu(5 * MIB_PER_GPU_WORKER)
    runtime = "Runtime(cuda=Cuda(device_id=1))"
    assert workers(f"{{'auto'}}, {runtime}.device_id", *gpus) == 5
    assert workers(f"{{'tensorrt'}}, {runtime}.device_id", *gpus) == 3


@needs_compiler
def test_workers_are_limited_where_a_candidate_runs_on_the_gpu() -> None:
    cases = [
        (["auto"], ["onnx"], True),
        (["cuda"], ["torch"], True),
        (["auto"], ["torch"], False),  # torch only runs where it is told to
        (["cpu", "cuda"], ["onnx"], True),
        (["cpu"], ["onnx"], False),
        (["cpu", "cpu"], ["onnx", "torch"], False),
        (["auto"], ["tensorrt"], True),
        (["auto"], ["no such engine"], False),  # as above
        (["tensorrt"], ["onnx"], True),
        (["tensorrt"], ["onnx", "tensorrt"], True),
        (["cpu"], ["onnx", "tensorrt"], True),  # select refuses it, in words
    ]
    sets = [gpu_providers(engines, providers) for providers, engines, _ in cases]
    calls = ", ".join(f"workers_for_gpu({names}, Runtime().device_id)" for names in sets)
    found = ask(f"[{calls}]", gpu(3 * MIB_PER_GPU_WORKER))
    assert [count is not None for count in found] == [limited for _, _, limited in cases]


def test_without_a_gpu_workers_are_not_limited_by_one() -> None:
    runtime = Runtime(cuda=Cuda(63), tensorrt=Tensorrt(63))
    for providers in ({"auto"}, {"cuda"}, {"tensorrt"}, set[str]()):
        assert workers_for_gpu(providers, runtime.device_id) is None


def test_n_auto_starts_no_more_workers_than_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTEST_XDIST_AUTO_NUM_WORKERS", raising=False)
    limits: dict[str, int | None] = {"cpus": 4, "gpu": None}
    monkeypatch.setattr(spreading, "usable_cpus", lambda: limits["cpus"])
    monkeypatch.setattr(spreading, "_gpu_workers", lambda config: limits["gpu"])
    config = cast(pytest.Config, None)
    assert [spreading.auto_workers(config, usual) for usual in (16, 4, 2)] == [4, 4, 2]
    limits["gpu"] = 1
    assert spreading.auto_workers(config, 16) == 1
    # A number of the user's stands.
    monkeypatch.setenv("PYTEST_XDIST_AUTO_NUM_WORKERS", "16")
    assert spreading.auto_workers(config, 16) == 16
