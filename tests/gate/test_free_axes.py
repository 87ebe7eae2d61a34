"""Which sizes a candidate is tried at, by the axes that its file says are free."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import parser

from pillsnap.compare.classification import ClassificationRecorder
from pillsnap.compare.loading import Prepared
from pillsnap.core.errors import WrongCandidate
from pillsnap.data.datasets import Sample
from pillsnap.engines.onnxruntime.engine import OnnxEngine
from pillsnap.engines.onnxruntime.sessions import open_session
from pillsnap.engines.timing import Stopwatch
from pillsnap.gate.free_axes import try_free_axes
from tests.plugin.numpy_engine import NumpyEngine

MEAN = "m = ReduceMean<axes = [2, 3], keepdims = 0>(x) y = Mul(m, m)"


def opened(axes: str, body: str = MEAN) -> Stopwatch:
    text = '<ir_version: 8, opset_import: ["" : 17]> g '
    text += f"(float[{axes}] x) => (float[{axes.split(',')[0]},3] y) {{{body}}}"
    return Stopwatch(
        OnnxEngine(open_session(parser.parse_model(text).SerializeToString(), "cpu", 1))
    )


def tried(candidate: Stopwatch, count: int, strides: tuple[int, ...] = ()) -> Any:
    array = np.random.default_rng(0).random((count, 3, 4, 6), np.float32)
    samples = [Sample(f"{index}.png", Path(), None) for index in range(count)]
    batch = Prepared(samples, array, [b""] * count)
    logits = candidate.run(array)
    recorder = ClassificationRecorder()
    return try_free_axes(candidate, "classification", batch, logits, logits, recorder, strides)


@pytest.mark.parametrize(
    ("axes", "count", "sizes", "images"),
    [
        ("N,3,4,6", 4, [4, 1, 2, 3], 4),
        ("N,3,4,6", 2, [2, 1, 3], 2),
        ("N,3,4,6", 1, [1, 2, 3], 1),
        # Three divides what ran, so that a file made for three runs there.
        ("N,3,4,6", 3, [3, 1, 2, 5], 3),
        ("N,3,4,6", 16, [16, 1, 2, 3], 6),
    ],
)
def test_a_free_batch_size_is_tried(axes: str, count: int, sizes: list[int], images: int) -> None:
    candidate = opened(axes)
    found = tried(candidate, count)
    assert (found["batch_sizes"], found["images"]) == (sizes, images)
    assert found["input_sizes"] == [[4, 6]]
    assert found["drift"]["prob_err_max"] < 1e-6
    # These runs are not timed.
    assert candidate.runs == []


@pytest.mark.parametrize(
    ("axes", "strides", "size"),
    [
        ("N,3,H,W", (), [8, 18]),  # multiples of what it is, where nobody knows of what else
        ("N,3,H,W", (1, 2), [6, 10]),
        ("N,3,S,S", (2,), [6, 8]),  # equal steps, where one name stands for both
        ("N,3,4,W", (2,), [4, 10]),
        ("2,3,H,6", (2,), [6, 6]),
    ],
)
def test_a_free_size_is_tried(axes: str, strides: tuple[int, ...], size: list[int]) -> None:
    found = tried(opened(axes), 2, strides)
    assert found["input_sizes"] == [[4, 6], size]
    fixed = axes.startswith("2")
    assert found["batch_sizes"] == ([2] if fixed else [2, 1, 3])
    assert (found["drift"] is None) is fixed


def test_what_is_fixed_or_not_to_be_tried_is_left() -> None:
    assert tried(opened("2,3,4,6"), 2) is None
    assert tried(Stopwatch(NumpyEngine("classification")), 2) is None


@pytest.mark.parametrize(
    ("axes", "body", "words"),
    [
        # What is made for three runs in batches of three, and of no other size.
        (
            "N,3,4,6",
            "s = Constant<value_ints = [3, 3, 24]>() r = Reshape(x, s)"
            "y = ReduceMean<axes = [2], keepdims = 0>(r)",
            "with 1 image of 4 x 6",
        ),
        (
            "N,3,4,6",
            "a = ReduceMean<axes = [2, 3], keepdims = 0>(x)"
            "s = Constant<value_ints = [3, 3]>() y = Expand(a, s)",
            "an output of [3, 3] in place of [1, 3]",
        ),
        # Of two images alone.
        (
            "N,3,4,6",
            "n = Shape<start = 0, end = 1>(x) c = Constant<value_ints = [2]>() e = Equal(n, c)"
            "b = Constant<value_ints = [3, 3, 24]>() g = Constant<value_ints = [-1, 3, 24]>()"
            "s = Where(e, b, g) r = Reshape(x, s) y = ReduceMean<axes = [2], keepdims = 0>(r)",
            "with 2 images of 4 x 6",
        ),
        (
            "N,3,H,6",
            "s = Constant<value_ints = [-1, 3, 24]>() r = Reshape(x, s)"
            "y = ReduceMean<axes = [2], keepdims = 0>(r)",
            "of 8 x 6, though its file says that H may be of any size",
        ),
    ],
)
def test_a_failure_names_axis_size_and_what_the_engine_says(
    axes: str, body: str, words: str
) -> None:
    with pytest.raises(WrongCandidate) as caught:
        tried(opened(axes, body), 3)
    assert words in str(caught.value)
    assert "holds the size of the export" in str(caught.value)


def test_answers_that_depend_on_the_batch_are_measured() -> None:
    body = MEAN.replace("y =", "p =")
    body += " c = ReduceMean<axes = [0], keepdims = 1>(m) k = Constant<value_float = 9.0>()"
    body += " d = Mul(c, k) y = Mul(p, d)"
    assert tried(opened("N,3,4,6", body), 4)["drift"]["prob_err_max"] > 1e-4
