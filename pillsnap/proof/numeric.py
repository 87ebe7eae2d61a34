"""Faults of arithmetic: a file of lower precision passes for one in float32."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from pillsnap.engines import Batch
from pillsnap.export.quantize.graph import COMPUTE
from pillsnap.export.quantize.silenced import quantising
from pillsnap.proof.fault import CLASSIFIER, DETECTOR, Bench, Injection, fault
from pillsnap.proof.onnx_edits import Weights, add_constant, change_all, insert_after
from pillsnap.proof.roles import activations, find

# Images that stand in for calibration data.
_NOISE_BATCHES = 4


@fault("numeric", "weights rounded to half precision")
def half_weights(bench: Bench) -> Injection:
    model = change_all(bench.model(), lambda w: w.clip(-65504, 65504).astype(np.float16))
    return Injection(bench.save(model))


@fault("numeric", "weights rounded to bfloat16")
def bfloat_weights(bench: Bench) -> Injection:
    def rounded(weights: Weights) -> Weights:
        bits = weights.astype(np.float32).view(np.uint32)
        return np.asarray(((bits + 0x8000) & np.uint32(0xFFFF0000)).view(np.float32))

    return Injection(bench.save(change_all(bench.model(), rounded)))


@fault("numeric", "all arithmetic in half precision", CLASSIFIER)
def half_arithmetic(bench: Bench) -> Injection:
    from onnxruntime.transformers.float16 import convert_float_to_float16

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tiny weights that become the tiniest half
        model = convert_float_to_float16(
            bench.model(), keep_io_types=True, disable_shape_infer=True
        )
    return Injection(bench.save(model))


@fault("numeric", "one activation in half precision, a thousandfold beyond its range")
def half_overflow(bench: Bench) -> Injection:
    from onnx import TensorProto, helper

    model = bench.model()
    large = add_constant(model, "overflow/scale", np.float32(1e8))
    chain = (
        helper.make_node("Mul", ["x", large], ["overflow/large"], name="overflow/Mul"),
        helper.make_node(
            "Cast",
            ["overflow/large"],
            ["overflow/half"],
            name="overflow/half",
            to=TensorProto.FLOAT16,
        ),
        helper.make_node(
            "Cast",
            ["overflow/half"],
            ["overflow/float"],
            name="overflow/float",
            to=TensorProto.FLOAT,
        ),
        helper.make_node("Div", ["overflow/float", large], ["y"], name="overflow/Div"),
    )
    return Injection(bench.save(insert_after(model, find(model, *COMPUTE)[0].output[0], *chain)))


def _quantised(bench: Bench, quantise: Callable[[Path], object]) -> Injection:
    """What ONNX Runtime's own quantiser writes to a path, with the healthy file's metadata."""
    import onnx

    target = bench.folder / "int8.onnx"
    with quantising(bench.healthy):
        quantise(target)
    model = onnx.load(target)
    del model.metadata_props[:]
    return Injection(bench.save(model))


@fault("numeric", "INT8 weights and activations, calibrated on noise", CLASSIFIER)
def int8_without_calibration(bench: Bench) -> Injection:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

    rng = np.random.default_rng(0)
    shape = bench.config.input_shape(bench.stage)

    class Noise(CalibrationDataReader):  # type: ignore[misc]  # no types
        def __init__(self) -> None:
            self.batches: Iterator[Batch] = iter(
                rng.uniform(-0.1, 0.1, (_NOISE_BATCHES, *shape)).astype(np.float32)
            )

        def get_next(self) -> dict[str, Batch] | None:
            batch = next(self.batches, None)
            return None if batch is None else {"input": batch}

    return _quantised(
        bench,
        lambda target: quantize_static(
            bench.healthy, target, Noise(), quant_format=QuantFormat.QDQ
        ),
    )


@fault("numeric", "INT8 weights, activations quantised on the fly", DETECTOR)
def int8_dynamic(bench: Bench) -> Injection:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    return _quantised(
        bench,
        lambda target: quantize_dynamic(bench.healthy, target, weight_type=QuantType.QUInt8),
    )


def _saturated(bench: Bench, most: float) -> Injection:
    from onnx import helper

    model = bench.model()
    limit = add_constant(model, "saturation/most", np.float32(most))
    for index, output in enumerate(activations(model)):
        clip = helper.make_node("Clip", ["x", "", limit], ["y"], name=f"saturation/{index}")
        insert_after(model, output, clip)
    return Injection(bench.save(model))


@fault("numeric", "activations cut off at 6, as by ReLU6 for ReLU")
def saturated_activations(bench: Bench) -> Injection:
    return _saturated(bench, 6)


@fault(
    "numeric",
    "activations cut off at 10,000",
    CLASSIFIER,
    blind="no validation photo drives an activation so far: its graph alone tells",
)
def saturated_out_of_reach(bench: Bench) -> Injection:
    return _saturated(bench, 1e4)
