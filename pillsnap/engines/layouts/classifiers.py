"""Layouts of classifiers: logits, or what a softmax inside has made of them."""

from __future__ import annotations

import numpy as np

from pillsnap.config.cells import CLASSIFICATION
from pillsnap.engines.layouts.records import Array, Expected, Layout, each_output
from pillsnap.pipeline.layouts import READERS, read_flat

# What the probabilities of an image may miss 1 by: half precision keeps eleven bits of each.
_SUM = 5e-3


def _of_classes(shape: tuple[int, ...], expected: Expected) -> bool:
    """[N,classes], or [N,classes,1,1] of a network that ends in a convolution."""
    return shape[1:2] == (expected.classes,) and set(shape[2:]) <= {1}


def _are_probabilities(values: Array) -> bool:
    flat = read_flat([values]).astype(np.float64)
    inside = (flat >= 0) & (flat <= 1 + _SUM)
    return bool(inside.all() and (abs(flat.sum(axis=1) - 1) < _SUM).all())


def _are_logarithms(values: Array) -> bool:
    with np.errstate(over="ignore"):
        return _are_probabilities(np.exp(read_flat([values]).astype(np.float64)))


LAYOUTS = (
    Layout(
        "logits",
        CLASSIFICATION,
        "[N,classes] before softmax",
        "outputs",
        each_output(_of_classes),
        lambda outputs, _: not (_are_probabilities(outputs[0]) or _are_logarithms(outputs[0])),
        READERS["logits"],
    ),
    Layout(
        "probabilities",
        CLASSIFICATION,
        "[N,classes] after a softmax inside",
        "probabilities",
        each_output(_of_classes),
        lambda outputs, _: _are_probabilities(outputs[0]),
        READERS["probabilities"],
    ),
    Layout(
        "log-probabilities",
        CLASSIFICATION,
        "[N,classes] after a log-softmax inside",
        "probabilities",
        each_output(_of_classes),
        lambda outputs, _: _are_logarithms(outputs[0]),
        READERS["log-probabilities"],
    ),
)
