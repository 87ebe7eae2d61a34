"""Faults of exporting: the graph computes something else than the module did in evaluation."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pillsnap.config.settings import Shape
from pillsnap.engines.torch.checkpoints import build_classification_model, find_best_checkpoint
from pillsnap.export.exporters import exporting
from pillsnap.proof.fault import CLASSIFIER, DETECTOR, Bench, Injection, NotApplicable, fault
from pillsnap.proof.onnx_edits import add_constant, insert_after, set_attribute
from pillsnap.proof.roles import classifier_head, find, score_sigmoid

if TYPE_CHECKING:
    import torch


def traced(bench: Bench, break_module: Callable[[torch.nn.Module], None]) -> Injection:
    """Export the classifier again after `break_module`, in the modes its modules then have."""
    import onnx
    import torch

    checkpoint = find_best_checkpoint(bench.config, bench.stage)
    module = build_classification_model(bench.config, checkpoint).module
    break_module(module)
    free = {0: "batch"}
    with (
        tempfile.TemporaryDirectory(prefix="pillsnap-") as folder,
        exporting(checkpoint, bench.config.export.opset),
        torch.no_grad(),
    ):
        file = Path(folder, "classifier.onnx")
        torch.onnx.export(
            module,
            (torch.randn(bench.config.input_shape(bench.stage)),),
            file,
            dynamo=False,
            opset_version=bench.config.export.opset,
            training=torch.onnx.TrainingMode.PRESERVE,
            do_constant_folding=False,
            input_names=["input"],
            output_names=["logits"],
            dynamic_axes={"input": free, "logits": free},
        )
        model = onnx.load(file)
    return Injection(bench.save(model))


def _norms(module: torch.nn.Module) -> list[Any]:
    import torch

    found = [each for each in module.modules() if isinstance(each, torch.nn.BatchNorm2d)]
    if not found:
        raise NotApplicable("the network has no BatchNorm")
    return found


def _require_modes(module: torch.nn.Module, shape: Shape) -> None:
    """Raise NotApplicable for a network that answers alike in training and in evaluation mode."""
    import torch

    images = torch.randn(2, *shape[1:])
    with torch.no_grad():
        evaluated, trained = module.eval()(images), module.train()(images)
    if torch.equal(evaluated, trained):
        raise NotApplicable("the network answers alike in training and in evaluation mode")


@fault("export", "the whole module in training mode", CLASSIFIER)
def train_mode(bench: Bench) -> Injection:
    def break_module(module: torch.nn.Module) -> None:
        _require_modes(module, bench.config.input_shape(bench.stage))
        module.train()

    return traced(bench, break_module)


@fault("export", "one BatchNorm uses the statistics of its batch", CLASSIFIER)
def batch_statistics(bench: Bench) -> Injection:
    def break_module(module: torch.nn.Module) -> None:
        _norms(module)[-1].train()

    return traced(bench, break_module)


@fault("export", "BatchNorm's epsilon a hundredfold", CLASSIFIER)
def other_epsilon(bench: Bench) -> Injection:
    def break_module(module: torch.nn.Module) -> None:
        for norm in _norms(module):
            norm.eps *= 100

    return traced(bench, break_module)


@fault("export", "dropout of 0.1 before the head is on", CLASSIFIER)
def dropout_on(bench: Bench) -> Injection:
    """Written out, as a functional dropout is: ONNX Runtime ignores a Dropout in training mode."""
    from onnx import TensorProto, helper

    model = bench.model()
    rate = add_constant(model, "dropout/rate", np.float32(0.1))
    left = add_constant(model, "dropout/left", np.float32(0.9))
    steps: tuple[tuple[str, list[str], str, dict[str, Any]], ...] = (
        ("RandomUniformLike", ["x"], "chance", {"seed": 0.0}),
        ("Greater", ["dropout/chance", rate], "stays", {}),
        ("Cast", ["dropout/stays"], "mask", {"to": TensorProto.FLOAT}),
        ("Mul", ["x", "dropout/mask"], "kept", {}),
    )
    chain = [
        helper.make_node(kind, inputs, [f"dropout/{name}"], name=f"dropout/{name}", **attributes)
        for kind, inputs, name, attributes in steps
    ]
    chain.append(helper.make_node("Div", ["dropout/kept", left], ["y"], name="dropout/scale"))
    return Injection(bench.save(insert_after(model, classifier_head(model).input[0], *chain)))


@fault("export", "rows and columns of the image swapped")
def swapped_axes(bench: Bench) -> Injection:
    from onnx import helper

    model = bench.model()
    swap = helper.make_node("Transpose", ["x"], ["y"], name="swap", perm=[0, 1, 3, 2])
    return Injection(bench.save(insert_after(model, model.graph.input[0].name, swap)))


@fault("export", "softmax inside the file and after it", CLASSIFIER)
def softmax_twice(bench: Bench) -> Injection:
    from onnx import helper

    model = bench.model()
    softmax = helper.make_node("Softmax", ["x"], ["y"], name="softmax", axis=1)
    return Injection(bench.save(insert_after(model, "logits", softmax)))


@fault("export", "scores without their sigmoid", DETECTOR)
def missing_sigmoid(bench: Bench) -> Injection:
    model = bench.model()
    score_sigmoid(model).op_type = "Identity"
    return Injection(bench.save(model))


@fault("export", "sigmoid of the scores applied twice", DETECTOR)
def sigmoid_twice(bench: Bench) -> Injection:
    from onnx import helper

    model = bench.model()
    scores = score_sigmoid(model).output[0]
    again = helper.make_node("Sigmoid", ["x"], ["y"], name="again")
    return Injection(bench.save(insert_after(model, scores, again)))


@fault("export", "Resize rounds up, as at another opset, for down", DETECTOR)
def resize_semantics(bench: Bench) -> Injection:
    model = bench.model()
    for each in find(model, "Resize"):
        set_attribute(each, "nearest_mode", "ceil")
    return Injection(bench.save(model))


@fault("export", "one convolution padded like TensorFlow's SAME", CLASSIFIER)
def same_padding(bench: Bench) -> Injection:
    model = bench.model()
    for each in find(model, "Conv"):
        ints = {attribute.name: list(attribute.ints) for attribute in each.attribute}
        top, left, *end = ints.get("pads", [0, 0, 0, 0])
        if max(ints.get("strides", [1])) > 1 and top and [top, left] == end:
            set_attribute(each, "pads", [0, 0, 2 * top, 2 * left])
            break
    else:
        raise NotApplicable("no convolution with a stride is padded alike on both sides")
    return Injection(bench.save(model))
