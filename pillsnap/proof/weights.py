"""Faults of weights: the graph is right, some of its numbers are not."""

from __future__ import annotations

import numpy as np

from pillsnap.proof.fault import CLASSIFIER, DETECTOR, Bench, Fault, Injection, fault
from pillsnap.proof.onnx_edits import Weights, change, change_all, convolutions, middle, node


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


def _flip(bench: Bench, bit: int) -> Injection:
    """Flip a bit of the largest weight of the middle convolution."""

    def flip(weights: Weights) -> Weights:
        bits = weights.view(np.uint32).ravel()
        bits[np.abs(weights).argmax()] ^= np.uint32(1 << bit)
        return weights

    model = bench.model()
    return Injection(bench.save(change(model, middle(model), flip)))


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
    def swap(weights: Weights) -> Weights:
        weights[[3, 7]] = weights[[7, 3]]
        return weights

    model = bench.model()
    head = node(model, "Gemm")
    for name in head.input[1:]:
        change(model, name, swap)
    return Injection(bench.save(model))


@fault("weights", "one output channel of one convolution is zero")
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


@fault("weights", "the head of stride 32 is zero", DETECTOR)
def dead_head(bench: Bench) -> Injection:
    model = bench.model()
    for name in [t.name for t in model.graph.initializer]:
        if ".cv2.2." in name or ".cv3.2." in name:
            change(model, name, np.zeros_like)
    return Injection(bench.save(model))


@fault("weights", "the last convolution before the head lost its bias")
def bias_lost(bench: Bench) -> Injection:
    model = bench.model()
    last = convolutions(model)[-1]
    biases = [n.input[2] for n in model.graph.node if last in n.input and len(n.input) > 2]
    return Injection(bench.save(change(model, biases[0], np.zeros_like)))


FAULTS: tuple[Fault, ...] = (
    *tensor_off_1_percent,
    *tensor_off_1_per_mille,
    *exponent_bit_flipped,
    *sign_bit_flipped,
    *mantissa_bit_flipped,
    *class_rows_swapped,
    *channel_zeroed,
    *old_checkpoint,
    *dead_head,
    *bias_lost,
)
