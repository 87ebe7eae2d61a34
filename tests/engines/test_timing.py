"""Speed and memory: what is timed, and what the figures make of it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pillsnap.compare.figures.performance import BUDGETS, performance_figures
from pillsnap.compare.verdict import BUDGET, Breach, find_over_budget
from pillsnap.config.runtime import Cuda, Runtime
from pillsnap.engines import Batch
from pillsnap.engines import timing as timing_module
from pillsnap.engines.timing import LEAST, SECONDS, OnnxAlone, Stopwatch, time_here
from tests.engines.test_onnxruntime import save_network


class Engine:
    """Counts its runs."""

    def __init__(self) -> None:
        self.info: dict[str, Any] = {"path": "model"}
        self.sizes: list[int] = []

    def run(self, batch: Batch) -> Batch:
        self.sizes.append(len(batch))
        return batch + 1


def batch_of(count: int) -> Batch:
    return np.zeros((count, 3, 4, 4), np.float32)


def test_a_stopwatch_leaves_out_the_run_that_warms_up() -> None:
    watch = Stopwatch(Engine())
    assert watch.info == {"path": "model"}
    for count in (4, 4, 2):
        np.testing.assert_array_equal(watch.run(batch_of(count)), batch_of(count) + 1)
    assert [images for images, _ in watch.runs] == [4, 2]
    assert all(seconds > 0 for _, seconds in watch.runs)


def test_quick_batches_are_repeated_and_slow_ones_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine()
    watch = Stopwatch(engine)
    watch.repeat(batch_of(3))
    assert engine.sizes == [3] * (1 + LEAST)
    watch.repeat(batch_of(3))  # there are enough
    assert len(watch.runs) == LEAST
    watch.runs = [(3, 2 * SECONDS)]
    watch.repeat(batch_of(3))
    assert len(watch.runs) == 1


def test_an_engine_without_a_process_of_its_own_is_timed_here() -> None:
    engine = Engine()
    alone = time_here(engine.run, batch_of(1))
    assert len(alone.seconds) == len(engine.sizes) - 1 >= 5
    assert alone.peak_memory_mib is alone.peak_gpu_memory_mib is None


def test_a_session_is_timed_in_a_process_of_its_own(tmp_path: Path) -> None:
    path = save_network(tmp_path / "network.onnx")
    alone = OnnxAlone(path, "cpu", 1, Runtime(), "fp32")
    found = alone.measure(batch_of(1))
    assert len(found.seconds) >= 5
    assert all(seconds > 0 for seconds in found.seconds)
    # ONNX Runtime and numpy, not the torch and pytest of this process.
    assert found.peak_memory_mib is not None
    assert 10 < found.peak_memory_mib < 400
    assert found.peak_gpu_memory_mib is None
    assert found.as_dict()["seconds"] == list(found.seconds)


def test_gpu_memory_is_that_of_the_configured_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = SimpleNamespace(run=lambda batch: batch)
    session.ort = SimpleNamespace(get_providers=lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(timing_module, "open_session", lambda *_: session)
    monkeypatch.setattr(timing_module, "gpu_process_mib", lambda device=0: 100.0 + device)
    alone = OnnxAlone(tmp_path / "a.onnx", "cuda", 1, Runtime(cuda=Cuda(device_id=3)), "fp32")
    assert alone.measure_here(batch_of(1)).peak_gpu_memory_mib == 103.0


def test_a_process_that_fails_says_why(tmp_path: Path) -> None:
    found = OnnxAlone(tmp_path / "gone.onnx", "cpu", 1, Runtime(), "fp32").measure(batch_of(1))
    assert found.seconds == ()
    assert found.problem is not None
    assert "cannot load this model" in found.problem
    assert "gone.onnx" in found.problem
    assert "\n" not in found.problem
    performance = performance_figures([timing(alone=found.as_dict())], None, contended=False)
    assert performance["single_problem"] == found.problem
    assert performance["latency_p50_ms"] is None


def timing(*runs: tuple[int, float], **others: Any) -> dict[str, Any]:
    return {
        "runs": [list(run) for run in runs],
        "reference_s": None,
        "reference_remembered": False,
        "alone": None,
        "float32_alone": None,
        **others,
    }


def test_figures_of_speed_and_memory() -> None:
    alone = {"seconds": [0.1, 0.2, 0.3], "peak_memory_mib": 80.5, "peak_gpu_memory_mib": None}
    found = performance_figures(
        [
            timing(
                (16, 2.0),
                (16, 4.0),
                (3, 9.0),
                reference_s=0.375,
                reference_remembered=True,
                alone=alone,
            ),
            timing((16, 3.0)),
        ],
        3 * 2**20,
        contended=False,
    )
    assert found == {
        "contended": False,
        "kind": None,
        "batch_size": 16,
        "batch_runs": 3,
        "images_per_s": pytest.approx(48 / 9),
        "batch_latency_p50_ms": pytest.approx(3000),
        "batch_latency_p95_ms": pytest.approx(3900),
        "single_runs": 3,
        "single_problem": None,
        "latency_p50_ms": pytest.approx(200),
        "latency_p95_ms": pytest.approx(290),
        "torch_images_per_s": pytest.approx(1 / 0.375),
        "torch_remembered": True,
        "speedup_over_torch": pytest.approx(2.0),
        "speedup_over_fp32": None,
        "fp32_compared": None,
        "peak_memory_mib": 80.5,
        "peak_gpu_memory_mib": None,
        "model_size_mib": 3.0,
    }


def test_a_file_of_lower_precision_is_held_against_the_float32_one() -> None:
    one, other = {"seconds": [0.2, 0.1, 0.9]}, {"seconds": [0.1, 0.3, 0.05]}
    found = performance_figures(
        [timing((16, 2.0)), timing(alone=one, float32_alone=other)], None, contended=False
    )
    assert found["speedup_over_fp32"] == pytest.approx(0.5)
    assert found["fp32_compared"] == "alone"
    # One that could not be timed is held against nothing.
    for failed in ({"alone": {"seconds": []}}, {"float32_alone": {"seconds": []}}):
        times = timing(**{"alone": one, "float32_alone": other, **failed})
        found = performance_figures([times], None, contended=False)
        assert found["speedup_over_fp32"] is found["fp32_compared"] is None


def test_figures_that_were_not_measured_are_null() -> None:
    found = performance_figures([timing()], None, contended=True)
    assert found["contended"] is True
    assert (found["batch_runs"], found["single_runs"]) == (0, 0)
    others = found.keys() - {"contended", "batch_runs", "single_runs"}
    assert {found[name] for name in others} == {None}
    assert set(BUDGETS) <= others


def test_budgets() -> None:
    performance = performance_figures(
        [timing((16, 2.0), alone={"seconds": [0.1]})], None, contended=False
    )
    assert find_over_budget(performance, {"latency_p50_ms": 100.1}) == ()
    assert find_over_budget(performance, {"latency_p50_ms": 99, "latency_p95_ms": 200}) == (
        Breach("latency_p50_ms", 100.0, 99, BUDGET),
    )
    # What could not be measured is not inside its budget.
    (breach,) = find_over_budget(performance, {"peak_gpu_memory_mib": 8000})
    assert (breach.figure, breach.value) == ("peak_gpu_memory_mib", np.inf)
    contended = performance | {"contended": True}
    assert find_over_budget(contended, {"latency_p50_ms": 1}) == ()
