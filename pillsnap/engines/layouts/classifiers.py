"""Layouts of classifiers: logits, or what a softmax inside has made of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pillsnap.config.cells import CLASSIFICATION
from pillsnap.engines.layouts.records import Array, Expected, Layout, Size, each_output
from pillsnap.engines.protocol import Batch

# What the probabilities of an image may miss 1 by: half precision keeps eleven bits of each.
_SUM = 5e-3

# Below it float32 loses digits, and an exporter's zero has no logarithm.
LEAST_PROBABILITY = 1e-30


def _of_classes(shape: tuple[int, ...], expected: Expected) -> bool:
    """[N,classes], or [N,classes,1,1] of a network that ends in a convolution."""
    return shape[1:2] == (expected.classes,) and set(shape[2:]) <= {1}


def _flat(values: Array) -> Batch:
    flat: Batch = values.reshape(len(values), -1).astype(np.float32)
    return flat


def _are_probabilities(values: Array) -> bool:
    flat = _flat(values).astype(np.float64)
    inside = (flat >= 0) & (flat <= 1 + _SUM)
    return bool(inside.all() and (abs(flat.sum(axis=1) - 1) < _SUM).all())


def _are_logarithms(values: Array) -> bool:
    with np.errstate(over="ignore"):
        return _are_probabilities(np.exp(_flat(values).astype(np.float64)))


def _logarithms(outputs: Sequence[Array], _: Size) -> Batch:
    found: Batch = np.log(np.maximum(_flat(outputs[0]), np.float32(LEAST_PROBABILITY)))
    return found


LAYOUTS = (
    Layout(
        "logits",
        CLASSIFICATION,
        "[N,classes] before softmax",
        "outputs",
        each_output(_of_classes),
        lambda outputs, _: not (_are_probabilities(outputs[0]) or _are_logarithms(outputs[0])),
        lambda outputs, _: _flat(outputs[0]),
    ),
    Layout(
        "probabilities",
        CLASSIFICATION,
        "[N,classes] after a softmax inside",
        "probabilities",
        each_output(_of_classes),
        lambda outputs, _: _are_probabilities(outputs[0]),
        _logarithms,
    ),
    Layout(
        "log-probabilities",
        CLASSIFICATION,
        "[N,classes] after a log-softmax inside",
        "probabilities",
        each_output(_of_classes),
        lambda outputs, _: _are_logarithms(outputs[0]),
        lambda outputs, _: _flat(outputs[0]),
    ),
)
