"""Faults of every weight tensor in turn: how exact the file still is, and what its graph says."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from pillsnap.compare.exactness import measure_errors
from pillsnap.compare.loading import load_batches
from pillsnap.compare.tasks import read_samples, task_of
from pillsnap.config.cells import CLASSIFICATION, Cell
from pillsnap.config.figures import EXACTNESS_LIMIT
from pillsnap.engines.onnxruntime.sessions import open_session
from pillsnap.engines.protocol import Request
from pillsnap.engines.torch.engine import open_reference
from pillsnap.export.graphs.nodes import read_nodes
from pillsnap.proof.onnx_edits import Weights, change, float_weights
from pillsnap.proof.weights import flip_bit
from tests.proof.conftest import MakeBench, Record

TINY = 1e-5


FAULTS: dict[str, Callable[[Weights], Weights]] = {
    "in half precision": lambda weights: weights.astype(np.float16).astype(np.float32),
    "x 1.003": lambda weights: weights * np.float32(1.003),
    f"x (1 + {TINY})": lambda weights: weights * np.float32(1 + TINY),
    "exponent bit": partial(flip_bit, bit=23),
    **{f"mantissa bit {bit}": partial(flip_bit, bit=bit) for bit in (22, 21, 20, 19)},
}

# Those that are run as well; a graph is read faster than a detector runs.
RUN = ("in half precision", "x 1.003")


@pytest.mark.proof
@pytest.mark.slow
def test_no_layer_can_change_unseen(bench_of: MakeBench, record: Record) -> None:
    stage = CLASSIFICATION  # of a detector it takes many minutes
    bench = bench_of(stage)
    config, task = bench.config, task_of(stage)
    cell = Cell(stage, "onnx", "cpu", "fp32", "smoke")
    reference = open_reference(Request(config, cell, threads=1))
    samples = read_samples(config, stage)[: config.compare.exactness_images]
    (batch,) = load_batches(samples, bench.transform, len(samples))
    recorder = task.recorder(reference, config.nms)
    assert reference.exact is not None
    runs = reference.exact, reference.engine.run
    exact, wanted = (recorder.parts(run(batch.array)) for run in runs)
    model = bench.model()
    whole, healthy = model.SerializeToString(), read_nodes(model).digest
    assert read_nodes(bench.model()).digest == healthy
    caught = dict.fromkeys(RUN, 0)
    tensors = float_weights(model)
    for name in tensors:
        for fault, how in FAULTS.items():
            broken = change(bench.model(), name, how)
            if broken.SerializeToString() == whole:
                continue  # zeros, and whole numbers
            assert read_nodes(broken).digest != healthy, (name, fault)
            if fault not in RUN:
                continue
            answer = open_session(broken.SerializeToString(), "cpu", 1).run(batch.array)
            errors = measure_errors(exact, wanted, recorder.parts(answer))
            caught[fault] += max(error.exactness for error in errors) > EXACTNESS_LIMIT
    record("every_layer", {"stage": stage, "tensors": len(tensors), "by_exactness": caught})
    assert min(caught.values()) >= 0.9 * len(tensors)
