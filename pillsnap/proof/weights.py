"""Faults of weights: the graph is right, some of its numbers are not."""

from __future__ import annotations

import numpy as np

from pillsnap.compare.tasks import read_samples
from pillsnap.proof.fault import CLASSIFIER, DETECTOR, Bench, Injection, NotApplicable, fault
from pillsnap.proof.onnx_edits import Weights, change, change_all
from pillsnap.proof.roles import classifier_head, heads, layers, middle


def scale_weight(bench: Bench, name: str, scale: float) -> Injection:
    """One tensor times 1 + scale."""
    model = bench.model()
    return Injection(bench.save(change(model, name, lambda w: w * (1 + scale))))


@fault("weights", "one tensor times 1.01")
def tensor_off_1_percent(bench: Bench) -> Injection:
    return scale_weight(bench, middle(bench.model()), 1e-2)


@fault("weights", "one tensor times 1.001")
def tensor_off_1_per_mille(bench: Bench) -> Injection:
    return scale_weight(bench, middle(bench.model()), 1e-3)


def flip_bit(weights: Weights, bit: int) -> Weights:
    """A bit of the largest weight flipped, in place: 31 is the sign, 30 to 23 the exponent."""
    bits = weights.view(np.uint32).ravel()
    bits[np.abs(weights).argmax()] ^= np.uint32(1 << bit)
    return weights


def _flip(bench: Bench, bit: int) -> Injection:
    """Flip a bit of the largest weight of the middle layer."""
    model = bench.model()
    return Injection(bench.save(change(model, middle(model), lambda w: flip_bit(w, bit))))


@fault("weights", "one weight's lowest exponent bit: doubled or halved")
def exponent_bit_flipped(bench: Bench) -> Injection:
    return _flip(bench, 23)


@fault("weights", "one weight's sign")
def sign_bit_flipped(bench: Bench) -> Injection:
    return _flip(bench, 31)


@fault("weights", "one weight's highest mantissa bit: up to a half more or less")
def mantissa_bit_flipped(bench: Bench) -> Injection:
    return _flip(bench, 22)


@fault("weights", "two rows of the head swapped", CLASSIFIER)
def class_rows_swapped(bench: Bench) -> Injection:
    # Of classes that photos show.
    labels = {s.label for s in read_samples(bench.config, bench.stage) if s.label is not None}
    if len(labels) < 2:
        raise NotApplicable("the photos are of one class alone")
    one, other = sorted(labels)[:2]
    classes = bench.config.classification.num_classes

    def swap(weights: Weights) -> Weights:
        of_class = np.moveaxis(weights, list(weights.shape).index(classes), 0)
        of_class[[one, other]] = of_class[[other, one]]
        return weights

    model = bench.model()
    for name in classifier_head(model).input[1:]:
        change(model, name, swap)
    return Injection(bench.save(model))


@fault("weights", "one output channel of one layer is zero")
def channel_zeroed(bench: Bench) -> Injection:
    def zero(weights: Weights) -> Weights:
        weights[len(weights) // 2] = 0
        return weights

    model = bench.model()
    return Injection(bench.save(change(model, middle(model), zero)))


@fault("weights", "every weight as of an earlier step: 0.1 % noise")
def old_checkpoint(bench: Bench) -> Injection:
    rng = np.random.default_rng(0)

    def earlier(weights: Weights) -> Weights:
        return np.asarray(weights * (1 + 1e-3 * rng.standard_normal(weights.shape)))

    return Injection(bench.save(change_all(bench.model(), earlier)))


def _dead(bench: Bench, stride: int) -> Injection:
    """The head of one stride, by its place, is zero."""
    model = bench.model()
    for name in heads(model)[stride]:
        change(model, name, np.zeros_like)
    return Injection(bench.save(model))


@fault("weights", "the head of the smallest stride is zero", DETECTOR)
def dead_head_of_small_boxes(bench: Bench) -> Injection:
    return _dead(bench, 0)


@fault("weights", "the head of the middle stride is zero", DETECTOR)
def dead_head_of_middle_boxes(bench: Bench) -> Injection:
    return _dead(bench, len(heads(bench.model())) // 2)


@fault("weights", "the head of the largest stride is zero", DETECTOR)
def dead_head(bench: Bench) -> Injection:
    return _dead(bench, -1)


@fault("weights", "the last layer with a bias lost it")
def bias_lost(bench: Bench) -> Injection:
    from onnx import numpy_helper

    model = bench.model()
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    of_layers = {
        node.input[1]: node.input[2]
        for node in model.graph.node
        if len(node.input) > 2 and node.input[2] in weights
    }
    biases = [of_layers[name] for name in layers(model) if name in of_layers]
    for bias in reversed(biases):
        if numpy_helper.to_array(weights[bias]).any():
            return Injection(bench.save(change(model, bias, np.zeros_like)))
    raise NotApplicable("no layer has a bias")
