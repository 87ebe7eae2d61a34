"""FP16 and INT8 files of real models on ONNX Runtime's CPU provider."""

from __future__ import annotations

import gc
import hashlib
import json
import logging
import re
import subprocess
import sys
import tempfile
import warnings
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator

from pillsnap.compare.detection import keep_indices
from pillsnap.compare.matching import match_boxes
from pillsnap.config.cells import STAGES
from pillsnap.config.load import load_config
from pillsnap.config.settings import Config, InputShape
from pillsnap.core.errors import ConfigError, ExportError
from pillsnap.demo.dataset import install
from pillsnap.engines.torch.checkpoints import stage_transform
from pillsnap.export import (
    Exported,
    describe_onnx,
    export_classification_onnx,
    export_detection_onnx,
)
from pillsnap.export.quantize import (
    Calibration,
    Criterion,
    Loss,
    describe_quantized,
    quantize_once,
)
from pillsnap.export.quantize.calibration import choose_images, measure_ranges
from pillsnap.export.quantize.fp16 import to_fp16
from pillsnap.export.quantize.graph import COMPUTE, head_nodes
from pillsnap.export.quantize.int8 import (
    STATIC_OPS,
    count_compute,
    quantize_dynamic,
    quantize_static,
)
from pillsnap.export.quantize.lowering import to_int8_but
from pillsnap.export.quantize.output_error import output_error
from pillsnap.export.quantize.sensitivity import find_sensitivity
from pillsnap.export.quantize.trials import Trials
from pillsnap.export.reading import graph_sha256
from pillsnap.pipeline.images import read_image
from pillsnap.pipeline.preprocess import preprocess
from tests.small_models import Experiment

ROOT = Path(__file__).resolve().parents[2]
# Smaller than the demo's 640, for time; its pills are still found.
SIDE = 320

Convert = Callable[["Case"], onnx.ModelProto]
Converted = Callable[[str, Convert], onnx.ModelProto]


@dataclass(frozen=True)
class Case:
    """A demo model in float32, images to calibrate it on and others to judge it on.

    `calibration` and `images` are float32 [N,3,H,W].
    """

    config: Config
    model: onnx.ModelProto
    calibration: np.ndarray
    images: np.ndarray

    @property
    def batches(self) -> list[np.ndarray]:
        return [image[None] for image in self.calibration]


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Case]:
    demo = load_config(ROOT / "config.yaml", {})
    install(demo.exp_dir)
    shape = InputShape((1, 3, SIDE, SIDE), demo.input_shape("classification"))
    folder = tmp_path_factory.mktemp("export")
    config = replace(demo, export=replace(demo.export, out_dir=folder, input_shape=shape))
    data = demo.exp_dir / "demo_data" / "val"
    scenes = sorted((data / "combo" / "images").glob("*.png"))
    singles = sorted((data / "single").glob("*/*.png"))

    def case(stage: str, model: Path, calibration: list[Path], images: list[Path]) -> Case:
        transform = stage_transform(config, stage)
        arrays = [
            np.stack([preprocess(read_image(path), transform) for path in paths])
            for paths in (calibration, images)
        ]
        return Case(config, onnx.load(model), *arrays)

    return {
        "detection": case(
            "detection", export_detection_onnx(config).path, scenes[100:112], scenes[:16]
        ),
        "classification": case(
            "classification", export_classification_onnx(config).path, singles[::20], singles[1::5]
        ),
    }


def static(case: Case) -> onnx.ModelProto:
    ranges, _ = measure_ranges(case.model, case.batches, STATIC_OPS)
    return quantize_static(case.model, ranges)


def dynamic(case: Case) -> onnx.ModelProto:
    return quantize_dynamic(case.model)


def fp16(case: Case) -> onnx.ModelProto:
    return to_fp16(case.model)


CONVERSIONS: tuple[Convert, ...] = (fp16, static, dynamic)


@pytest.fixture(scope="module")
def converted(cases: dict[str, Case]) -> Converted:
    """A demo model by stage and conversion, made once."""

    @cache
    def get(stage: str, convert: Convert) -> onnx.ModelProto:
        return convert(cases[stage])

    return get


def run(model: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name
    parts = [session.run(None, {name: images[i : i + 8]})[0] for i in range(0, len(images), 8)]
    return np.concatenate(parts)


@dataclass(frozen=True)
class Agreement:
    """Boxes after NMS against the float32 model's: all of both sides, those without a partner, and
    1 - IoU of the others."""

    boxes: int
    unmatched: float
    iou_delta_p95: float


def agreement(case: Case, model: onnx.ModelProto) -> Agreement:
    total = lost = 0
    deltas: list[float] = []
    for wanted, found in zip(run(case.model, case.images), run(model, case.images), strict=True):
        ours, theirs = (rows[keep_indices(rows, case.config.nms)] for rows in (wanted, found))
        matches = match_boxes(ours, theirs)
        total += len(ours) + len(theirs)
        lost += len(ours) + len(theirs) - 2 * len(matches.ious)
        deltas += list(1 - matches.ious)
    return Agreement(total, lost / total, float(np.quantile(deltas, 0.95)) if deltas else 1.0)


def holds(case: Case, model: onnx.ModelProto) -> bool:
    """The tolerances of profile int8 that need no labels."""
    figures = agreement(case, model)
    return figures.unmatched <= 0.03 and figures.iou_delta_p95 <= 0.08


def constants(model: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    return {tensor.name: tensor for tensor in model.graph.initializer}


def dims(value: onnx.ValueInfoProto) -> list[str | int]:
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]


def makers(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    return {name: node for node in model.graph.node for name in node.output}


@pytest.mark.parametrize("convert", CONVERSIONS, ids=lambda convert: convert.__name__)
@pytest.mark.parametrize("stage", STAGES)
def test_converted_file_is_valid_and_has_the_same_face(
    cases: dict[str, Case], converted: Converted, stage: str, convert: Convert
) -> None:
    case = cases[stage]
    before = case.model.SerializeToString()
    result = converted(stage, convert)
    assert case.model.SerializeToString() == before
    onnx.checker.check_model(result, full_check=True)
    assert [(entry.domain, entry.version) for entry in result.opset_import] == [("", 17)]
    for mine, theirs in (
        (result.graph.input, case.model.graph.input),
        (result.graph.output, case.model.graph.output),
    ):
        (mine,), (theirs,) = mine, theirs
        assert (mine.name, dims(mine)) == (theirs.name, dims(theirs))
        assert mine.type.tensor_type.elem_type == TensorProto.FLOAT
    assert isinstance(dims(result.graph.input[0])[0], str)  # the batch stays free
    assert list(result.metadata_props) == list(case.model.metadata_props)
    names = [node.name for node in result.graph.node]
    assert len(set(names)) == len(names)


def test_fp16_detector_is_half_the_size_and_drifts_a_little(cases: dict[str, Case]) -> None:
    case = cases["detection"]
    result = to_fp16(case.model)
    assert result.ByteSize() < 0.51 * case.model.ByteSize()
    figures = agreement(case, result)
    assert figures.boxes > 60
    assert figures.unmatched == 0
    assert 0 < figures.iou_delta_p95 < 1e-3


def test_fp16_classifier_is_half_the_size_and_drifts_a_little(cases: dict[str, Case]) -> None:
    case = cases["classification"]
    result = to_fp16(case.model)
    assert result.ByteSize() < 0.51 * case.model.ByteSize()
    wanted, found = run(case.model, case.images), run(result, case.images)
    assert (wanted.argmax(axis=1) == found.argmax(axis=1)).all()
    assert 1e-4 < np.abs(wanted - found).max() < 0.1


@pytest.mark.parametrize("stage", STAGES)
def test_fp16_weights_are_half_and_decoding_is_not(cases: dict[str, Case], stage: str) -> None:
    case = cases[stage]
    result = to_fp16(case.model)
    low, left = count_compute(result)
    tensors = constants(result)
    weighted = [
        node
        for node in result.graph.node
        if node.op_type in COMPUTE and node.input[1] in tensors and node.name not in left
    ]
    assert len(weighted) >= 16
    kinds = {tensors[name].data_type for node in weighted for name in node.input[1:]}
    assert kinds == {TensorProto.FLOAT16}
    if stage == "classification":
        assert left == ()
        return
    assert low == 89
    assert left == ("/model.23/dfl/conv/Conv",)
    types = {
        value.name: value.type.tensor_type.elem_type
        for value in onnx.shape_inference.infer_shapes(result).graph.value_info
    }
    decoding = [node for node in result.graph.node if node.name.startswith("/decode/")]
    assert len(decoding) == 11
    exact = [*decoding, *(node for node in result.graph.node if node.op_type == "Softmax")]
    assert len(exact) == 13
    floats = [types.get(name) for node in exact for name in node.output]
    assert TensorProto.FLOAT16 not in floats


def test_fp16_keeps_class_indices_past_2048(experiment: Experiment) -> None:
    config = experiment("yolo11n", boxes_of=2100)
    model = onnx.load(export_detection_onnx(config).path)
    biases = [t for t in model.graph.initializer if re.search(r"\.cv3\.\d\.2\.bias$", t.name)]
    assert len(biases) == 3
    for tensor in biases:
        bias = numpy_helper.to_array(tensor).copy()
        bias[2049] = 20.0
        tensor.CopyFrom(numpy_helper.from_array(bias, tensor.name))
    images = np.random.default_rng(0).random((2, 3, 64, 96), np.float32)
    assert (run(model, images)[..., 5] == 2049).all()
    assert (run(to_fp16(model), images)[..., 5] == 2049).all()  # 2048 in halves


def test_fp16_leaves_weights_float_that_half_cannot_hold(cases: dict[str, Case]) -> None:
    case = cases["classification"]
    large = onnx.ModelProto()
    large.CopyFrom(case.model)
    weight = next(t for t in large.graph.initializer if t.name == "fc.weight")
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * 1e6, "fc.weight"))
    with np.errstate(over="raise"):
        result = to_fp16(large)
    assert count_compute(result)[1] == ("/fc/Gemm",)
    wanted, found = run(large, case.images[:8]), run(result, case.images[:8])
    assert np.isfinite(found).all()
    assert np.abs(wanted - found).max() < 1e-2 * np.abs(wanted).max()


NORMED = """
<ir_version: 8, opset_import: ["" : 17]>
normed (float[N, 4] x) => (float[N, 4] y)
<float[4, 4] w = {1,0,0,0, 0,1,0,0, 0,0,1,0, 0,0,0,1}, float two = {2.0}, float tiny = {1e-9}>
{
    [product] product = MatMul (x, w)
    [square] square = Pow (product, two)
    [mean] mean = ReduceMean <axes = [1]> (square)
    [more] more = Add (mean, tiny)
    [root] root = Sqrt (more)
    [ratio] y = Div (product, root)
}
"""


@pytest.mark.parametrize("scale", [1e-5, 1.0, 300.0])
def test_fp16_of_a_norm_neither_overflows_nor_vanishes(scale: float) -> None:
    model = onnx.parser.parse_model(NORMED)
    image = np.array([[-2.0, 1.0, 3.0, 0.5]], np.float32) * np.float32(scale)
    # ONNX Runtime's CPU provider computes in float32 between two casts; this really uses halves.
    wanted, found = (
        ReferenceEvaluator(each).run(None, {"x": image})[0] for each in (model, to_fp16(model))
    )
    np.testing.assert_allclose(found, wanted, rtol=2e-2)


TANGLED = """
<ir_version: 8, opset_import: ["" : 17]>
tangled (float[N, 4] x) => (float[N, 4] y, float[N, 4] z, float[N, 4] sum)
<float[4, 4] w = {1,0,0,0, 0,1,0,0, 0,0,1,0, 0,0,0,1}, float[4] b = {1,2,3,4}>
{
    shared = Identity (w)
    three = Constant <value = float[1] {3.0}> ()
    [first] y = MatMul (x, shared)
    [second] more = Add (y, b)
    [third] z = Mul (more, three)
    [fourth] total = Add (x, b)
    [fifth] twice = MatMul (total, shared)
    [test] few = ReduceMean <keepdims = 0> (twice)
    [limit] yes = Less (few, three)
    [bool] one = Squeeze (yes)
    [branch] sum = If (one) <
        then_branch = one_way () => (float[N, 4] s) { s = Add (twice, b) },
        else_branch = other_way () => (float[N, 4] t) { t = Sub (twice, b) }
    >
}
"""


def test_fp16_of_a_graph_with_branches_and_outputs_in_the_middle() -> None:
    model = onnx.parser.parse_model(TANGLED)
    onnx.checker.check_model(model, full_check=True)
    result = to_fp16(model)
    onnx.checker.check_model(result, full_check=True)
    sessions = [
        onnxruntime.InferenceSession(m.SerializeToString(), providers=["CPUExecutionProvider"])
        for m in (model, result)
    ]
    for scale in (0.1, 10.0):  # one way of the branch and the other
        image = np.linspace(-scale, scale, 12, dtype=np.float32).reshape(3, 4)
        wanted, found = (session.run(None, {"x": image}) for session in sessions)
        for mine, theirs in zip(found, wanted, strict=True):
            assert mine.dtype == np.float32
            np.testing.assert_allclose(mine, theirs, rtol=2e-3, atol=2e-3)
    casts = [tuple(node.input) for node in result.graph.node if node.op_type == "Cast"]
    assert len(set(casts)) == len(casts)
    halves = {t.name for t in result.graph.initializer if t.data_type == TensorProto.FLOAT16}
    assert len(halves) == 3
    # x + b is computed from float32 alone, so it is not rounded before the product.
    (fourth,) = (node for node in result.graph.node if node.name == "fourth")
    assert list(fourth.input) == ["x", "b"]


@pytest.mark.parametrize("name", ["yolo11n", "yolo11m", "yolov8n"])
def test_head_is_found_whatever_the_names(experiment: Experiment, name: str) -> None:
    config = experiment(name, boxes_of=3)
    model = onnx.load(export_detection_onnx(config).path)
    last = max(
        int(node.name.split("/")[1].removeprefix("model."))
        for node in model.graph.node
        if node.name.startswith("/model.")
    )
    wanted = {
        node.name
        for node in model.graph.node
        if node.name.startswith((f"/model.{last}/", "/decode/"))
    }
    found = set(head_nodes(model))
    assert wanted <= found
    # Beside the module's own nodes only constants that several share.
    kinds = {node.op_type for node in model.graph.node if node.name in found - wanted}
    assert kinds <= {"Constant", "Identity"}
    places = {node.name: index for index, node in enumerate(model.graph.node)}
    for index, node in enumerate(model.graph.node):
        node.name = f"node_{node.op_type}_{index}"
    renamed = {int(name.rsplit("_", 1)[1]) for name in head_nodes(model)}
    assert renamed == {places[name] for name in found}


def test_classifier_has_no_head_to_leave_float(cases: dict[str, Case]) -> None:
    assert head_nodes(cases["classification"].model) == ()


@pytest.mark.parametrize("convert", [static, dynamic], ids=lambda convert: convert.__name__)
def test_int8_detector_finds_the_same_pills(
    cases: dict[str, Case], converted: Converted, convert: Convert
) -> None:
    case = cases["detection"]
    result = converted("detection", convert)
    assert result.ByteSize() < 0.45 * case.model.ByteSize()
    assert holds(case, result), agreement(case, result)
    low, left = count_compute(result)
    assert low >= 63
    head = set(head_nodes(case.model))
    assert len(head & set(left)) == 25
    # Products of two activations have no weights, and dynamic quantisation leaves them float.
    assert len(set(left) - head) == (0 if convert is static else 2)
    scores = np.abs(run(result, case.images) - run(case.model, case.images))[..., 4]
    assert scores.max() > 1e-3  # it is no float file


@pytest.mark.parametrize("convert", [static, dynamic], ids=lambda convert: convert.__name__)
def test_int8_classifier_answers_the_same(
    cases: dict[str, Case], converted: Converted, convert: Convert
) -> None:
    case = cases["classification"]
    result = converted("classification", convert)
    assert result.ByteSize() < 0.3 * case.model.ByteSize()
    assert count_compute(result) == (16, ())
    wanted, found = run(case.model, case.images), run(result, case.images)
    assert (wanted.argmax(axis=1) != found.argmax(axis=1)).mean() <= 0.02
    assert np.abs(wanted - found).max() > 1e-2


def test_static_weights_are_per_channel_and_of_seven_bits(converted: Converted) -> None:
    result = converted("classification", static)
    tensors = constants(result)
    weights = [
        (numpy_helper.to_array(tensors[node.input[0]]), tensors[node.input[1]])
        for node in result.graph.node
        if node.op_type == "DequantizeLinear"
        and node.input[0] in tensors
        and tensors[node.input[0]].data_type == TensorProto.INT8
    ]
    assert len(weights) == 16
    for values, scale in weights:
        assert list(scale.dims) == [values.shape[0]]
        # 255 * 64 * 2 fits the 16 bits that CPUs without VNNI add up in; 255 * 127 * 2 does not.
        assert np.abs(values).max() <= 64


def test_silu_is_computed_in_float(converted: Converted) -> None:
    result = converted("detection", static)
    made_by = makers(result)
    users: dict[str, list[str]] = {}
    for node in result.graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node.op_type)
    sigmoids = [node for node in result.graph.node if node.op_type == "Sigmoid"]
    assert len(sigmoids) == 78
    for node in sigmoids:
        # Between a DequantizeLinear and a QuantizeLinear it would run in eight bits all the same.
        assert "QuantizeLinear" not in users[node.output[0]]
    quantized = [n for n in result.graph.node if n.op_type == "QuantizeLinear"]
    assert any(made_by[n.input[0]].op_type == "Mul" for n in quantized if n.input[0] in made_by)


def test_weights_behind_identity_and_constant_are_quantised(cases: dict[str, Case]) -> None:
    case = cases["classification"]
    hidden = onnx.ModelProto()
    hidden.CopyFrom(case.model)
    first, second, *_ = (node for node in hidden.graph.node if node.op_type == "Conv")
    tensors = constants(hidden)
    constant = onnx.helper.make_node("Constant", [], ["hidden"], value=tensors[first.input[1]])
    identity = onnx.helper.make_node("Identity", [second.input[2]], ["alias"])
    first.input[1], second.input[2] = "hidden", "alias"
    hidden.graph.node.insert(0, constant)
    hidden.graph.node.insert(0, identity)
    # ONNX Runtime's quantiser by itself leaves such nodes float, and says nothing.
    plain = static(case)
    result = static(replace(case, model=hidden))
    assert count_compute(result) == (16, ())
    np.testing.assert_array_equal(run(result, case.images), run(plain, case.images))


def test_auto_brings_back_a_detector_whose_head_was_quantised_too(cases: dict[str, Case]) -> None:
    case = replace(cases["detection"], images=cases["detection"].images[:6])
    ranges, _ = measure_ranges(case.model, case.batches, STATIC_OPS)
    lowering = to_int8_but(case.model, ranges, ())
    assert agreement(case, lowering.build(())).unmatched == 1.0
    judged: list[onnx.ModelProto] = []

    def measure(model: onnx.ModelProto, few: bool) -> Loss:
        if few:
            wanted, found = (run(each, case.images[:2]) for each in (case.model, model))
            return Loss({}, output_error(wanted, found))
        judged.append(model)
        found = agreement(case, model)
        # Half of each tolerance is what must be held.
        shares = {"unmatched": found.unmatched / 0.06, "iou_delta_p95": found.iou_delta_p95 / 0.16}
        return Loss(shares)

    trials = Trials(lowering, measure)
    found = find_sensitivity(trials, most_layers=8, most_sets=10)
    assert found.kept is not None and found.loss is not None and found.loss.holds
    assert len(judged) <= 11 and trials.measured <= 8 + 2 * 11
    assert "/decode/columns/Concat" in found.kept_nodes
    model = lowering.build(found.kept_nodes)
    assert holds(case, model)
    low, left = count_compute(model)
    assert low > 30
    assert set(left) <= set(found.kept_nodes)
    assert quantize_static(case.model, ranges, exclude=found.kept_nodes) == model


@pytest.mark.parametrize("convert", CONVERSIONS, ids=lambda convert: convert.__name__)
def test_same_input_gives_the_same_bytes_in_another_process(
    cases: dict[str, Case], convert: Convert, tmp_path: Path
) -> None:
    case = cases["classification"]
    onnx.save(case.model, tmp_path / "fp32.onnx")
    np.save(tmp_path / "calibration.npy", case.calibration)
    code = f"""
import hashlib, numpy, onnx
from pillsnap.export.quantize.calibration import measure_ranges
from pillsnap.export.quantize.fp16 import to_fp16
from pillsnap.export.quantize.int8 import STATIC_OPS, quantize_dynamic, quantize_static
model = onnx.load({str(tmp_path / "fp32.onnx")!r})
batches = [image[None] for image in numpy.load({str(tmp_path / "calibration.npy")!r})]
if {convert.__name__!r} == "static":
    result = quantize_static(model, measure_ranges(model, batches, STATIC_OPS)[0])
else:
    result = {{"fp16": to_fp16, "dynamic": quantize_dynamic}}[{convert.__name__!r}](model)
print(hashlib.sha256(result.SerializeToString(deterministic=True)).hexdigest())
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={"PYTHONHASHSEED": "12345", "HOME": str(tmp_path)},
    )
    mine = convert(case).SerializeToString(deterministic=True)
    assert done.stdout.strip() == hashlib.sha256(mine).hexdigest()
    assert done.stderr == ""


@pytest.mark.parametrize("convert", CONVERSIONS, ids=lambda convert: convert.__name__)
def test_nothing_is_written_printed_or_changed(
    cases: dict[str, Case],
    convert: Convert,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    here, temporary = tmp_path / "here", tmp_path / "temporary"
    here.mkdir()
    temporary.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    root = logging.getLogger()
    handlers, disabled = list(root.handlers), logging.root.manager.disable
    # As in a script: with a handler there, logging.warning() would add none.
    monkeypatch.setattr(root, "handlers", [])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        convert(cases["classification"])
    assert root.handlers == []
    monkeypatch.setattr(root, "handlers", handlers)
    assert logging.root.manager.disable == disabled
    assert [str(warning.message) for warning in caught] == []
    assert list(here.iterdir()) == list(temporary.iterdir()) == []
    output = capfd.readouterr()
    assert (output.out, output.err) == ("", "")


def test_calibration_holds_one_batch_at_a_time(cases: dict[str, Case]) -> None:
    case = cases["classification"]
    images = case.calibration[:12]
    seen: list[weakref.ref[np.ndarray]] = []
    most = 0

    def batches() -> Iterator[np.ndarray]:
        nonlocal most
        for image in images:
            batch = image[None].copy()
            seen.append(weakref.ref(batch))
            gc.collect()
            most = max(most, sum(array() is not None for array in seen))
            yield batch

    ranges, count = measure_ranges(case.model, batches(), STATIC_OPS)
    assert count == 12
    assert most <= 2
    low, high = ranges["input"]
    assert (low, high) == (images.min(), images.max())
    low, high = ranges["logits"]
    logits = run(case.model, images)
    np.testing.assert_allclose((low, high), (logits.min(), logits.max()), rtol=1e-5)


def test_calibration_says_what_it_cannot_use(cases: dict[str, Case]) -> None:
    case = cases["classification"]
    with pytest.raises(ExportError, match="no image to calibrate"):
        measure_ranges(case.model, [], STATIC_OPS)
    with pytest.raises(ExportError, match=r"input \['batch'") as caught:
        measure_ranges(case.model, [np.zeros((1, 3, 64, 64), np.float32)], STATIC_OPS)
    assert "[1, 3, 64, 64]" in str(caught.value)
    broken = onnx.ModelProto()
    broken.CopyFrom(case.model)
    bias = next(t for t in broken.graph.initializer if t.name == "fc.bias")
    bias.CopyFrom(numpy_helper.from_array(np.full(24, np.inf, np.float32), "fc.bias"))
    with pytest.raises(ExportError, match="not finite") as caught:
        measure_ranges(broken, case.batches[:1], STATIC_OPS)
    assert "logits" in str(caught.value)


def test_names_of_no_node_are_refused(cases: dict[str, Case]) -> None:
    case = cases["classification"]
    with pytest.raises(ExportError, match="no node of this name") as caught:
        quantize_dynamic(case.model, exclude=["/fc/Gem"])
    assert "/fc/Gem" in str(caught.value)
    result = quantize_dynamic(case.model, exclude=["/fc/Gemm"])
    assert count_compute(result) == (15, ("/fc/Gemm_MatMul",))


@dataclass(frozen=True)
class Project:
    """A classifier's float32 export, and images to calibrate it on, kept as arrays."""

    config: Config
    source: Exported
    paths: list[Path]

    def calibration(self, seed: int = 0) -> Calibration:
        return choose_images(self.paths, np.load, verified=(), count=4, seed=seed)

    def quantize(self, precision: str = "int8", **options: Any) -> Exported:
        options = {"calibration": self.calibration(), **options}
        return quantize_once(self.config, "classification", self.source, precision, **options)


@pytest.fixture
def project(experiment: Experiment, tmp_path: Path) -> Project:
    config = experiment(backbone="test_resnet")
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{index}.npy" for index in range(8)]
    for path in paths:
        np.save(path, rng.standard_normal((3, 64, 64), np.float32))
    return Project(config, export_classification_onnx(config), paths)


@pytest.mark.parametrize(
    ("precision", "method", "ending", "images"),
    [
        ("fp16", "static", "fp16", 0),
        ("int8", "dynamic", "int8-dynamic", 0),
        ("int8", "static", "int8-static", 4),
        ("int8", "auto", "int8-auto", 4),
    ],
)
def test_published_file_says_what_it_is(
    project: Project, precision: str, method: str, ending: str, images: int
) -> None:
    criterion = Criterion("always", lambda model, few: Loss())
    found = project.quantize(precision, method=method, criterion=criterion)
    assert found.path == project.source.path.with_name(f"{project.source.path.stem}-{ending}.onnx")
    assert found.sha256 == hashlib.sha256(found.path.read_bytes()).hexdigest()
    assert (found.opset, found.dynamic_axes, found.reused) == (17, True, False)
    assert describe_onnx(found.path, "classification").metadata == found.metadata
    kept = {k: v for k, v in project.source.metadata.items() if k != "pillsnap.graph_sha256"}
    assert kept.items() <= found.metadata.items()
    model = onnx.load(found.path)
    assert found.metadata["pillsnap.graph_sha256"] == graph_sha256(model)
    told = describe_quantized(found)
    assert told is not None
    assert count_compute(model) == (16, ())
    assert told == {
        "precision": precision,
        "method": "" if precision == "fp16" else method,
        "size_bytes": found.path.stat().st_size,
        "nodes_low": 16,
        "nodes_float": 0,
        "float_nodes": [],
        "freed": [],
        "source_sha256": project.source.sha256,
        "calibration_sha256": project.calibration().sha256 if images else "",
        "calibration_images": images,
        "calibration_method": "minmax" if images else None,
    }
    assert json.loads(json.dumps(told)) == told
    assert describe_quantized(project.source) is None
    assert not list(project.config.out_dir.glob("latest_*"))


def test_conversion_is_made_once_for_each_recipe(project: Project) -> None:
    first = project.quantize()
    assert replace(project.quantize(), reused=False) == first
    assert project.quantize().reused
    other = project.quantize(exclude=["/fc/Gemm"])
    assert other.path.name == first.path.name.replace(".onnx", "-2.onnx")
    assert json.loads(other.metadata["pillsnap.float_nodes"]) == ["/fc/Gemm"]
    seeded = project.quantize(calibration=project.calibration(seed=1))
    assert seeded.path.name.endswith("-3.onnx")
    for again, wanted in (
        (project.quantize(), first),
        (project.quantize(exclude=["/fc/Gemm"]), other),
    ):
        assert (again.path, again.sha256, again.reused) == (wanted.path, wanted.sha256, True)
    data = first.path.read_bytes()
    first.path.unlink()
    assert not project.quantize().reused
    assert first.path.read_bytes() == data


def test_another_criterion_or_source_is_another_recipe(project: Project) -> None:
    asked: list[str] = []

    def criterion(name: str) -> Criterion:
        def measure(model: onnx.ModelProto, few: bool) -> Loss:
            asked.append(name)
            return Loss()

        return Criterion(name, measure)

    for name in ("loose", "loose", "tight"):
        project.quantize(method="auto", criterion=criterion(name))
    assert asked == ["loose", "loose", "tight", "tight"]  # on few images, and on all
    fresh = replace(project, source=export_classification_onnx(project.config, fresh=True))
    found = fresh.quantize()
    assert not found.reused
    assert found.path.name.startswith(fresh.source.path.stem)


def test_auto_tells_what_it_left_float(project: Project) -> None:
    def measure(model: onnx.ModelProto, few: bool) -> Loss:
        lost = float("/fc/Gemm" not in count_compute(model)[1])
        return Loss({"float head": lost}, lost)

    found = project.quantize(method="auto", criterion=Criterion("a float head", measure))
    told = describe_quantized(found)
    assert told is not None
    assert "/fc/Gemm" in told["freed"]
    assert "/fc/Gemm" in told["float_nodes"]
    assert told["nodes_low"] >= 1
    assert told["calibration_method"] == "minmax"


def test_nodes_that_fp16_is_told_to_leave_stay_float(project: Project) -> None:
    found = project.quantize("fp16", exclude=["/fc/Gemm"])
    told = describe_quantized(found)
    assert told is not None and told["float_nodes"] == ["/fc/Gemm"]
    assert project.quantize("fp16").path != found.path
    with pytest.raises(ExportError, match="the model has no node of this name"):
        project.quantize("fp16", exclude=["/nowhere"])


@pytest.mark.parametrize("method", ["entropy", "percentile"])
def test_ranges_without_outliers_are_another_file(project: Project, method: str) -> None:
    def made(config: Config) -> Exported:
        return replace(project, config=config).quantize()

    quantize = replace(project.config.export.quantize, calibration_method=method)
    export = replace(project.config.export, quantize=quantize)
    found = made(replace(project.config, export=export))
    told = describe_quantized(found)
    assert told is not None and told["calibration_method"] == method
    assert told["calibration_images"] == 4
    assert found.sha256 != made(project.config).sha256


@pytest.mark.parametrize("damage", [lambda data: data[:-100], lambda data: b""])
def test_damaged_file_is_made_again(project: Project, damage: Callable[[bytes], bytes]) -> None:
    first = project.quantize()
    first.path.write_bytes(damage(first.path.read_bytes()))
    again = project.quantize()
    assert not again.reused
    assert again.sha256 == first.sha256
    onnx.checker.check_model(onnx.load(again.path), full_check=True)


def test_file_with_other_weights_is_not_reused(project: Project) -> None:
    first = project.quantize("fp16")
    model = onnx.load(first.path)
    tensor = next(t for t in model.graph.initializer if t.data_type == TensorProto.FLOAT16)
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * 0, tensor.name))
    onnx.save(model, first.path)
    assert not project.quantize("fp16").reused


def test_processes_of_a_run_agree_on_reuse(project: Project, tmp_path: Path) -> None:
    marker = tmp_path / "run" / "quantize.json"
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: project.quantize(marker=marker), range(4)))
    assert {entry.path for entry in found} == {found[0].path}
    assert [entry.reused for entry in found] == [False] * 4
    assert len(list(project.config.out_dir.glob("*-int8-static*.onnx"))) == 1
    later = project.quantize(marker=tmp_path / "later" / "quantize.json")
    assert later.reused


def test_file_of_a_fixed_batch_size_is_converted(experiment: Experiment, project: Project) -> None:
    config = experiment(
        backbone="test_resnet",
        dynamic_axes=False,
        input_shape=InputShape((1, 3, 64, 96), (3, 3, 64, 64)),
    )
    fixed = Project(config, export_classification_onnx(config), project.paths)
    for precision in ("fp16", "int8"):
        model = onnx.load(fixed.quantize(precision).path)
        assert dims(model.graph.input[0]) == [3, 3, 64, 64]
    told = describe_quantized(fixed.quantize())
    assert told is not None
    assert told["calibration_images"] == 4


@pytest.mark.parametrize("opset", [13, 20])
def test_other_opsets_are_kept(experiment: Experiment, opset: int) -> None:
    config = experiment("yolo11n", opset=opset)
    source = export_detection_onnx(config)
    images = [np.random.default_rng(0).random((1, 3, 64, 96), np.float32)]
    model = onnx.load(source.path)
    ranges, _ = measure_ranges(model, images, STATIC_OPS)
    for result in (to_fp16(model), quantize_static(model, ranges), quantize_dynamic(model)):
        onnx.checker.check_model(result, full_check=True)
        assert [entry.version for entry in result.opset_import] == [opset]
        assert run(result, images[0]).shape == run(model, images[0]).shape


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"calibration": None}, "static needs images to calibrate on"),
        ({"method": "auto"}, "auto needs a criterion to hold"),
    ],
)
def test_what_cannot_be_made_is_refused(
    project: Project, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        project.quantize(**options)


def test_model_that_nothing_can_be_done_with_is_refused(project: Project) -> None:
    computing = count_compute(onnx.load(project.source.path))[1]
    with pytest.raises(ExportError, match="nothing of the model could be converted to int8"):
        project.quantize(exclude=computing)
