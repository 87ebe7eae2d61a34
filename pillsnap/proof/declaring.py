"""Faults of what a file says of itself: sizes that it takes in name alone, a precision that it has
not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from pillsnap.config.settings import InputShape, Shape
from pillsnap.proof.fault import DETECTOR, Bench, Injection, NotApplicable, fault
from pillsnap.proof.onnx_edits import add_constant, insert_after


@fault("export", "made for batches of one", refusal="one size only")
def frozen_batch_size(bench: Bench) -> Injection:
    return Injection(_fixed(bench, bench.config.export.input_shape))


@fault("export", "made for batches of exactly the gate's size", refusal="one size only")
def frozen_at_the_gates_batch_size(bench: Bench) -> Injection:
    _, channels, height, width = bench.config.input_shape(bench.stage)
    shape: Shape = (bench.config.compare.batch_size, channels, height, width)
    shapes = replace(bench.config.export.input_shape, **{bench.stage: shape})
    return Injection(_fixed(bench, shapes))


@fault("export", "made for images of half the size", DETECTOR, refusal="cannot run this batch")
def frozen_image_size(bench: Bench) -> Injection:
    import onnx

    config = bench.config
    _, channels, height, width = config.input_shape(bench.stage)
    # Whole strides; those of most detectors end at 32.
    half_height, half_width = (max(64, side // 64 * 32) for side in (height, width))
    if (half_height, half_width) == (height, width):
        raise NotApplicable("the images are as small as a detector takes")
    shape: Shape = (config.compare.batch_size, channels, half_height, half_width)
    shapes = replace(config.export.input_shape, detection=shape)
    model = onnx.load(_fixed(bench, shapes))
    # The file claims to be what was asked for, a free batch size included.
    del model.metadata_props[:]
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    return Injection(bench.save(model))


def _fixed(bench: Bench, shapes: InputShape) -> Path:
    """An export for inputs of exactly these shapes."""
    export = replace(bench.config.export, dynamic_axes=False, input_shape=shapes)
    return bench.export(replace(bench.config, export=export))


def _through(bench: Bench, shape: list[int]) -> Injection:
    """The input reshaped to what it is anyway: 0 is a size that is taken over."""
    from onnx import helper

    model = bench.model()
    held = add_constant(model, "held/shape", np.array(shape, np.int64))
    reshape = helper.make_node("Reshape", ["x", held], ["y"], name="held/Reshape")
    return Injection(bench.save(insert_after(model, model.graph.input[0].name, reshape)))


@fault(
    "export",
    "a batch axis that says it is free, and a Reshape that holds the gate's batch size",
    refusal="batch axis N may be of any size",
)
def batch_size_held_inside(bench: Bench) -> Injection:
    return _through(bench, [bench.config.compare.batch_size, 0, 0, 0])


@fault(
    "export",
    "height and width that say they are free, and a Reshape that holds the gate's",
    DETECTOR,
    refusal="H and W may be of any size",
)
def image_size_held_inside(bench: Bench) -> Injection:
    return _through(bench, [0, 0, *bench.config.input_shape(bench.stage)[2:]])


@fault("export", "float32 for FP16: the option was ignored", refusal="computes in fp16")
def half_precision_ignored(bench: Bench) -> Injection:
    return Injection(precision="fp16")


@fault("export", "float32 for INT8: the option was ignored", refusal="computes in int8")
def quantisation_ignored(bench: Bench) -> Injection:
    return Injection(precision="int8")
