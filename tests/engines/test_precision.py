"""In which types the compute nodes of a graph run."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import parser

from pillsnap.engines.onnxruntime.precision import compute_types, read_precision
from pillsnap.engines.precision import is_lower, types_in_words

HEAD = '<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1, "own" : 1]>\n'
CONV = "(float[N,3,8,8] x, float[4,3,1,1] w) => (float[N,4,8,8] y)"
QUANTISED = (
    "(float[N,3,8,8] x, int8[4,3,1,1] q, float s, uint8 z, int8 t) => (float[N,4,8,8] y) {"
    "a = QuantizeLinear(x, s, z) b = DequantizeLinear(a, s, z) w = DequantizeLinear(q, s, t) "
)
PRODUCT = "(float[N,4] x, int8[4,2] q, float s, uint8 z, int8 t) => (float[N,2] y) {"


def parsed(text: str, functions: str = "") -> onnx.ModelProto:
    return parser.parse_model(f"{HEAD}g {text}\n{functions}")


AGAIN = "e = QuantizeLinear(c, s, z) y = DequantizeLinear(e, s, z)}"
UNUSED = AGAIN.replace("y =", "n =")


@pytest.mark.parametrize(
    ("graph", "expected"),
    [
        (CONV + "{y = Conv(x, w)}", [("fp32", False)]),
        (
            "(float[N,3,8,8] x, float16[4,3,1,1] w) => (float[N,4,8,8] y)"
            "{h = Cast<to = 10>(x) c = Conv(h, w) y = Cast<to = 1>(c)}",
            [("fp16", False)],
        ),
        # Weights in half precision, cast up before they are multiplied, save space alone.
        (
            "(float[N,3,8,8] x, float16[4,3,1,1] h) => (float[N,4,8,8] y)"
            "{w = Cast<to = 1>(h) y = Conv(x, w)}",
            [("fp32", False)],
        ),
        (QUANTISED + f"c = Conv(b, w) {AGAIN}", [("int8", False)]),
        (QUANTISED + f"d = Conv(b, w) c = Relu(d) {AGAIN}", [("int8", False)]),
        # ONNX Runtime multiplies floats where nothing quantises the output again.
        (QUANTISED + "y = Conv(b, w)}", [("fp32", False)]),
        (QUANTISED + "c = Conv(b, w) y = Sigmoid(c)}", [("fp32", False)]),
        # What no output depends on does not run.
        (
            QUANTISED + f"y = Conv(x, w) c = Conv(b, w) {UNUSED}",
            [("fp32", True)],
        ),
        (QUANTISED + "y = Conv(x, w)}", [("fp32", True)]),
        # An excluded node after a quantised one: no weights are quantised.
        (
            "(float[N,3,8,8] x, float[4,3,1,1] w, float s, uint8 z) => (float[N,4,8,8] y)"
            "{a = QuantizeLinear(x, s, z) b = DequantizeLinear(a, s, z) y = Conv(b, w)}",
            [("fp32", False)],
        ),
        (
            PRODUCT + "a = QuantizeLinear(x, s, z) b = DequantizeLinear(a, s, z)"
            "w = DequantizeLinear(q, s, t) v = Transpose<perm = [0, 1]>(w) y = MatMul(b, v)}",
            [("int8", False)],
        ),
        (
            "(float[N,4] x, uint8[4,2] q) => (float[N,2] y) {a, s, z = DynamicQuantizeLinear(x)"
            "i = MatMulInteger(a, q, z) f = Cast<to = 1>(i) y = Mul(f, s)}",
            [("int8", False)],
        ),
        (
            "(uint8[N,4] x, uint8[4,2] q, float s, uint8 z) => (uint8[N,2] y)"
            "{y = QLinearMatMul(x, s, z, q, s, z, s, z)}",
            [("int8", False)],
        ),
        (
            "(float[N,4] x, uint8[2,1,16] q, float[2] s) => (float[N,2] y)"
            "{y = com.microsoft.MatMulNBits<K = 4, N = 2, bits = 4, block_size = 32>(x, q, s)}",
            [("fp32", True)],
        ),
        # Types are not inferred beyond an operator that onnx does not know: the weights tell.
        (
            "(float16[N,3,8,8] x, float16[4,3,1,1] w) => (float16[N,4,8,8] y)"
            "{a = com.microsoft.QuickGelu(x) y = com.microsoft.FusedConv(a, w)}",
            [("fp16", False)],
        ),
        (
            "(double[N,4] x, double[4,2] w, bool c) => (double[N,2] y) {y = If (c) <"
            "then_branch = t () => (double[N,2] a) {a = MatMul(x, w)},"
            "else_branch = e () => (double[N,2] b) {b = MatMul(x, w)}>}",
            [("double", False)] * 2,
        ),
        (CONV + "{y = Identity(x)}", []),
    ],
)
def test_types_are_those_of_what_is_multiplied(
    graph: str, expected: list[tuple[str, bool]]
) -> None:
    assert [found[1:] for found in compute_types(parsed(graph))] == expected


def test_nodes_of_a_models_own_functions_are_counted() -> None:
    function = '<domain: "own", opset_import: ["" : 17]> layer (a, b) => (c) {c = Conv(a, b)}'
    model = parsed(CONV + "{y = own.layer(x, w)}", function)
    assert [found[1:] for found in compute_types(model)] == [("fp32", False)]


def test_a_file_with_weights_beside_it_is_read_without_them(tmp_path: Path) -> None:
    model = parsed(
        "(float[N,3,8,8] x) => (float[N,4,8,8] y)"
        "<float[4,3,1,1] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}> {y = Conv(x, w)}"
    )
    expected = {
        "compute_nodes": 1,
        "compute_nodes_by_type": {"fp32": 1},
        "weight_only_nodes": 0,
    }
    assert read_precision(model.SerializeToString(), {}) == expected
    path = tmp_path / "model.onnx"
    weights = model.graph.initializer[0]
    weights.ClearField("float_data")
    weights.data_location = onnx.TensorProto.EXTERNAL
    weights.external_data.add(key="location", value="they are gone")
    path.write_bytes(model.SerializeToString())
    assert read_precision(path, {}) == expected
    # TensorRT may make float16 of it, where its option says so.
    tensorrt = {"TensorrtExecutionProvider": {"trt_fp16_enable": "1"}}
    assert read_precision(path, tensorrt)["compute_nodes_by_type"] == {"fp16": 1}


@pytest.mark.parametrize(
    ("by_type", "weights", "words", "lower"),
    [
        ({"fp32": 16}, 0, "in fp32", False),
        ({"double": 1, "fp32": 2}, 0, "2 in fp32, 1 in double", False),
        ({"fp32": 25, "int8": 65}, 0, "65 in int8, 25 in fp32", True),
        ({"fp16": 3}, 0, "in fp16", True),
        ({"fp32": 16}, 9, "in fp32 (9 with weights alone in fewer bits)", True),
        (
            {"fp16": 88, "fp32": 2},  # of OpenVINO, whose file may be of half precision
            88,
            "88 in fp16, 2 in fp32 (88 with weights alone in fewer bits)",
            True,
        ),
    ],
)
def test_types_in_words(by_type: dict[str, int], weights: int, words: str, lower: bool) -> None:
    found = {"compute_nodes_by_type": by_type, "weight_only_nodes": weights}
    assert types_in_words(found) == words
    assert is_lower(found) is lower
