"""Files that ultralytics and others exported: healthy ones pass whatever their layout, and the
faults of a catalogue breach in each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import TensorProto, helper, numpy_helper

from pillsnap.compare.loading import Prepared
from pillsnap.compare.result import CellResult
from pillsnap.compare.verdict import BATCH
from pillsnap.config.cells import CLASSIFICATION, DETECTION, Cell
from pillsnap.config.selection import Selection
from pillsnap.config.settings import Config, Nms, Postprocess
from pillsnap.core.errors import CheckpointError, ConfigError, WrongCandidate
from pillsnap.data.datasets import Sample
from pillsnap.engines.torch.engine import open_reference
from pillsnap.export import describe_model, export_onnx
from pillsnap.gate.layouts import set_layout
from pillsnap.gate.ledger import judge_mode
from pillsnap.gate.run import GateRun
from pillsnap.pipeline.transforms import Geometry
from pillsnap.proof.onnx_edits import add_constant, change, change_all, insert_after
from pillsnap.proof.roles import layers
from pillsnap.report.policy import notes
from tests.gate.bench import Bench
from tests.gate.native import export_natively
from tests.small_models import Experiment

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16
Save = Callable[[onnx.ModelProto], Path]


@pytest.fixture(scope="module")
def small(config: Config) -> Config:
    """The demo at a size that is quick; each cell of four photos."""
    compare = replace(config.compare, sample_count=4, batch_size=4)
    shape = replace(config.export.input_shape, detection=(1, 3, 256, 256))
    return replace(config, export=replace(config.export, compare=compare, input_shape=shape))


@pytest.fixture(scope="module")
def detector(small: Config) -> Bench:
    return Bench(small, DETECTION)


@pytest.fixture(scope="module")
def classifier(small: Config) -> Bench:
    return Bench(small, CLASSIFICATION)


@pytest.fixture(scope="module")
def native(small: Config, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., bytes]:
    """What ultralytics writes with these options, once."""
    known: dict[str, bytes] = {}

    def export(**options: Any) -> bytes:
        name = repr(options)
        if name not in known:
            folder = tmp_path_factory.mktemp("native")
            known[name] = export_natively(small, folder, **options).SerializeToString()
        return known[name]

    return export


PLAIN: dict[str, Any] = {}
NMS = {"nms": True, "conf": 0.1, "iou": 0.6}


@pytest.mark.parametrize(
    ("options", "name", "size"),
    [
        (PLAIN, "output0", 1),
        ({"batch": 8, "opset": 13}, "output0", 8),
        ({"dynamic": True, "opset": 19}, "output0", None),
        (NMS, "nms", 1),
        ({"nms": True, "dynamic": True, "batch": 8}, "nms", None),
    ],
)
def test_a_healthy_export_of_ultralytics_is_equivalent(
    detector: Bench,
    native: Callable[..., bytes],
    save: Save,
    options: dict[str, Any],
    name: str,
    size: int | None,
) -> None:
    verdict, layout = detector.judge(save(onnx.load_from_string(native(**options))))
    assert (verdict.name, verdict.reason) == ("equivalent", "")
    assert (layout["name"], layout["batch_size"], layout["plain"]) == (name, size, False)
    if name == "nms":  # the thresholds of the file, not of the configuration
        inside = [layout["nms"][key] for key in ("conf_threshold", "iou_threshold")]
        assert inside == [options.get("conf", 0.25), options.get("iou", 0.7)]
        assert layout["nms"]["max_detections"] == 300


def test_an_export_in_half_precision_holds_its_profile(
    detector: Bench, native: Callable[..., bytes], save: Save
) -> None:
    file = save(onnx.load_from_string(native(quantize=16)))
    assert detector.judge(file, profile="fp16")[0].name == "within_tolerance"
    assert detector.judge(file)[0].name == "breach"


def scaled(model: onnx.ModelProto, column: int, factor: float) -> onnx.ModelProto:
    """One column of rows of six by a factor."""
    factors = np.ones(6, np.float32)
    factors[column] = factor
    by = add_constant(model, "factors", factors)
    return insert_after(
        model, model.graph.output[0].name, helper.make_node("Mul", ["x", by], ["y"])
    )


def shifted(model: onnx.ModelProto, column: int, by: float) -> onnx.ModelProto:
    """One column of rows of six by a number."""
    values = np.zeros(6, np.float32)
    values[column] = by
    name = add_constant(model, "shift", values)
    node = helper.make_node("Add", ["x", name], ["y"])
    return insert_after(model, model.graph.output[0].name, node)


FAULTS: dict[str, Callable[[onnx.ModelProto], onnx.ModelProto]] = {
    "weights x 1.02": lambda model: change(model, layers(model)[20], lambda w: w * 1.02),
    "all weights x 1.001": lambda model: change_all(model, lambda w: w * 1.001),
    "BGR": lambda model: change(model, first_weights(model), lambda w: w[:, ::-1]),
    "a dead head": lambda model: change(model, head_of(model), np.zeros_like),
}


def first_weights(model: onnx.ModelProto) -> str:
    return next(node.input[1] for node in model.graph.node if node.op_type == "Conv")


def head_of(model: onnx.ModelProto) -> str:
    """The scores' last weights at the stride where the demo's pills are."""
    names = [node.input[1] for node in model.graph.node if node.op_type == "Conv"]
    return next(name for name in names if "cv3.1.2" in name and "weight" in name)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("options", [PLAIN, NMS])
def test_a_fault_breaches_whatever_the_layout(
    detector: Bench,
    native: Callable[..., bytes],
    save: Save,
    options: dict[str, Any],
    fault: str,
) -> None:
    model = FAULTS[fault](onnx.load_from_string(native(**options)))
    assert detector.judge(save(model))[0].name == "breach"


@pytest.mark.parametrize(
    ("column", "factor"), [(0, 1.005), (3, 0.995), (4, 0.99), (4, 1.01), (5, 0), (2, 2.0)]
)
def test_a_little_off_after_an_nms_breaches(
    detector: Bench, native: Callable[..., bytes], save: Save, column: int, factor: float
) -> None:
    """Half a pixel, a hundredth of a score; of one class alone no class can be another."""
    model = scaled(onnx.load_from_string(native(**NMS)), column, factor)
    name = detector.judge(save(model))[0].name
    assert name == ("equivalent" if column == 5 else "breach")


def test_an_nms_of_other_thresholds_than_the_file_says_breaches(
    detector: Bench, native: Callable[..., bytes], save: Save
) -> None:
    model = onnx.load_from_string(native(**NMS))
    made = {node.output[0]: node for node in model.graph.node}
    for node in model.graph.node:
        if node.op_type == "Greater":  # by an operator that says none
            node.op_type = "GreaterOrEqual"
            (value,) = made[node.input[1]].attribute
            value.t.CopyFrom(onnx.numpy_helper.from_array(np.float32(0.8)))
    file = save(model)
    verdict, layout = detector.judge(file)
    assert layout["nms"]["conf_threshold"] == detector.config.nms.conf_threshold
    assert verdict.name == "breach"
    assert "unmatched_rate" in verdict.reason


def test_rows_that_repeat_a_box_are_unmatched(
    detector: Bench, native: Callable[..., bytes], save: Save
) -> None:
    model = onnx.load_from_string(native(**NMS))
    name = model.graph.output[0].name
    insert_after(model, name, helper.make_node("Concat", ["x", "x"], ["y"], axis=1))
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 600
    verdict, _ = detector.judge(save(model))
    assert "unmatched_rate" in verdict.reason


def with_input(model: onnx.ModelProto, kind: int, *, last: bool) -> onnx.ModelProto:
    """Images under another name, of another type, channels last where that is asked for."""
    old = model.graph.input[0]
    nodes, name = [], "image_input"
    if last:
        nodes.append(helper.make_node("Transpose", [name], ["first"], perm=[0, 3, 1, 2]))
        name = "first"
    nodes.append(helper.make_node("Cast", [name], [old.name], to=FLOAT))
    size = old.type.tensor_type.shape.dim[2].dim_value
    shape: list[str | int] = ["n", size, size, 3] if last else ["n", 3, size, size]
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("image_input", kind, shape))
    for node in reversed(nodes):
        model.graph.node.insert(0, node)
    return model


def bare_classifier(config: Config) -> onnx.ModelProto:
    model = onnx.load(export_onnx(config, CLASSIFICATION).path)
    del model.metadata_props[:]
    return model


def with_output(model: onnx.ModelProto, kind: str, **attributes: Any) -> onnx.ModelProto:
    """Another operator at the end."""
    node = helper.make_node(kind, ["x"], ["y"], **attributes)
    return insert_after(model, model.graph.output[0].name, node)


CLASSIFIERS: dict[str, tuple[Callable[[onnx.ModelProto], onnx.ModelProto], str]] = {
    "as it is": (lambda model: model, "logits"),
    "softmax": (lambda model: with_output(model, "Softmax", axis=1), "probabilities"),
    "log-softmax": (lambda model: with_output(model, "LogSoftmax", axis=1), "log-probabilities"),
    "NHWC": (lambda model: with_input(model, FLOAT, last=True), "logits"),
    "half input": (lambda model: with_input(model, HALF, last=False), "logits"),
    "features first": (lambda model: features_first(model), "logits"),
}


def features_first(model: onnx.ModelProto) -> onnx.ModelProto:
    (gemm,) = (node for node in model.graph.node if node.op_type == "Gemm")
    logits = model.graph.output[0]
    features = helper.make_tensor_value_info(gemm.input[0], FLOAT, ["n", None])
    del model.graph.output[:]
    model.graph.output.extend([features, logits])
    return model


@pytest.mark.parametrize("form", CLASSIFIERS)
def test_a_classifier_of_any_layout_is_judged(classifier: Bench, save: Save, form: str) -> None:
    make, name = CLASSIFIERS[form]
    verdict, layout = classifier.judge(save(make(bare_classifier(classifier.config))))
    # Images in half precision are other images, by a little.
    assert verdict.name == ("breach" if form == "half input" else "equivalent"), verdict.reason
    assert layout["name"] == name
    assert layout["plain"] is (name == "logits" and form != "features first")
    broken = bare_classifier(classifier.config)
    change(broken, layers(broken)[1], lambda weights: weights * 1.001)
    assert classifier.judge(save(make(broken)))[0].name == "breach"


def test_a_file_all_in_half_precision_holds_its_profile(classifier: Bench, save: Save) -> None:
    model = bare_classifier(classifier.config)
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype == np.float32:
            half = onnx.numpy_helper.from_array(values.astype(np.float16), tensor.name)
            tensor.CopyFrom(half)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = HALF
    del model.graph.value_info[:]
    file = save(model)
    assert classifier.judge(file, profile="fp16")[0].name == "within_tolerance"
    assert classifier.judge(file)[0].name == "breach"


def test_weights_may_lie_beside_the_file(classifier: Bench, tmp_path: Path) -> None:
    file = tmp_path / "beside.onnx"
    onnx.save(
        bare_classifier(classifier.config),
        file,
        save_as_external_data=True,
        location="beside.data",
        size_threshold=0,
    )
    assert classifier.judge(file)[0].name == "equivalent"


def test_a_batch_size_that_is_fixed_inside_alone_is_read_and_left_to_the_free_axes(
    classifier: Bench, save: Save
) -> None:
    model = bare_classifier(classifier.config)
    shape = add_constant(model, "four", np.array([4, 3, 96, 96]))
    model.graph.node.insert(0, helper.make_node("Reshape", ["images", shape], ["input"]))
    model.graph.input[0].name = "images"
    assert classifier.judge(save(model))[0].name == "equivalent"


@pytest.mark.parametrize("swap", ["rolled", "tempered"])
def test_probabilities_of_other_classes_or_another_temperature_breach(
    classifier: Bench, save: Save, swap: str
) -> None:
    model = bare_classifier(classifier.config)
    (gemm,) = (node for node in model.graph.node if node.op_type == "Gemm")
    for name in gemm.input[1:]:
        how = (lambda w: np.roll(w, 1, axis=0)) if swap == "rolled" else (lambda w: w * 1.001)
        change(model, name, how)
    assert classifier.judge(save(with_output(model, "Softmax", axis=1)))[0].name == "breach"


def test_an_option_that_is_wrong_is_refused(classifier: Bench, save: Save) -> None:
    file = save(with_output(bare_classifier(classifier.config), "Softmax", axis=1))
    with pytest.raises(WrongCandidate, match=r"not of layout logits"):
        classifier.judge(file, layout="logits")
    verdict, layout = classifier.judge(file, layout="probabilities")
    assert (verdict.name, layout["asked"]) == ("equivalent", True)


@pytest.fixture
def one_to_one(experiment: Experiment) -> Config:
    """A small YOLO26, which has a head of each kind."""
    nms = Postprocess(Nms(conf_threshold=0.5))  # of random weights there is much below
    return experiment("yolo26n", boxes_of=3, image=(160, 160), postprocess=nms)


ONE_TO_ONE_FAULTS: dict[str, Callable[[onnx.ModelProto], onnx.ModelProto]] = {
    "none": lambda model: model,
    "boxes a little off": lambda model: scaled(model, 0, 1.005),
    "scores a little off": lambda model: scaled(model, 4, 0.99),
    "another class": lambda model: shifted(model, 5, 1),
    "weights x 1.02": lambda model: change(
        model, "model.23.one2one_cv2.2.2.weight", lambda weights: weights * 1.02
    ),
}


@pytest.mark.parametrize("fault", ONE_TO_ONE_FAULTS)
def test_a_one_to_one_head_is_held_to_the_same_head(
    one_to_one: Config, save: Save, tmp_path: Path, fault: str
) -> None:
    model = ONE_TO_ONE_FAULTS[fault](export_natively(one_to_one, tmp_path, nms=False))
    pixels = np.random.default_rng(0).random((4, 3, 160, 160), np.float32)
    samples = [Sample(f"{index}.png", Path(), None) for index in range(len(pixels))]
    geometries = [Geometry(1.0, 0, 0, 160, 160)] * len(pixels)
    batch = Prepared(samples, pixels, [bytes([each]) * 32 for each in range(4)], geometries)
    bench = Bench(one_to_one, DETECTION, batch, one_to_one=True)
    verdict, layout = bench.judge(save(model))
    assert (layout["name"], layout["compared"]) == ("end-to-end", "one-to-one")
    assert layout["nms"]["max_detections"] == 300
    inexact = {breach.figure for breach in verdict.breaches}
    assert bool(inexact) is (fault != "none"), verdict.reason
    assert bench.metrics["reference_boxes"] > 20


def test_a_run_asks_the_head_that_the_candidate_has(one_to_one: Config, tmp_path: Path) -> None:
    sides = GateRun(one_to_one, Selection(), threads=1, run_dir=tmp_path / "run").sides
    cell = Cell(DETECTION, "onnx", "cpu", "fp32", "smoke")
    usual, other = (
        sides.reference_for(cell, layout and {"name": "end-to-end", "compared": layout})
        for layout in (None, "one-to-one")
    )
    assert usual is sides.reference(cell) is sides.reference_for(cell, {"compared": "boxes"})
    # What they answered is remembered apart, and they do not answer alike.
    assert usual.reference.key != other.reference.key
    image = np.random.default_rng(0).random((1, 3, 160, 160), np.float32)
    scores = [each.reference.engine.run(image)[..., 4] for each in (usual, other)]
    assert np.abs(scores[0] - scores[1]).max() > 0.05
    sides.bundle = object()  # type: ignore[assignment]  # nothing of it is asked
    with pytest.raises(WrongCandidate, match="boxes of a one-to-one head"):
        sides.reference_for(cell, {"name": "end-to-end", "compared": "one-to-one"})


def test_a_checkpoint_without_a_one_to_one_head_cannot_be_held_to_one(detector: Bench) -> None:
    with pytest.raises(CheckpointError, match="has no one-to-one head"):
        open_reference(replace(detector.request, one_to_one=True))


@pytest.mark.parametrize(
    ("stage", "right", "wrong"),
    [
        (DETECTION, "detections", ("nms", "end-to-end", "output0", "detections:other")),
        (CLASSIFICATION, "logits", ("probabilities", "log-probabilities", "logits:other")),
    ],
)
def test_an_export_of_pillsnap_is_of_no_other_layout(
    small: Config, request: pytest.FixtureRequest, stage: str, right: str, wrong: tuple[str, ...]
) -> None:
    bench = request.getfixturevalue({DETECTION: "detector", CLASSIFICATION: "classifier"}[stage])
    file = export_onnx(small, stage).path
    verdict, layout = bench.judge(file, layout=right)
    assert (verdict.name, layout) == ("equivalent", None)
    for each in wrong:
        with pytest.raises(WrongCandidate, match=f"the file is not of layout {each}"):
            bench.judge(file, layout=each)


def test_an_engine_that_reads_no_layouts_is_asked_for_none(
    classifier: Bench, save: Save, small: Config
) -> None:
    file = describe_model(save(bare_classifier(classifier.config)), CLASSIFICATION)
    reference = classifier.reference
    with pytest.raises(ConfigError, match="in one way only"):
        set_layout(reference.engine, file, small, CLASSIFICATION, reference, "logits")
    assert set_layout(reference.engine, file, small, CLASSIFICATION, reference, None) is None


def run_gate(config: Config, stage: str, file: Path, folder: Path) -> CellResult:
    selection = Selection(stages=(stage,), candidates={stage: file})
    run = GateRun(config, selection, threads=1, run_dir=folder, contended=True)
    (result,) = judge_mode(run, "smoke")
    return result


def test_a_run_says_how_the_file_was_read_and_tries_its_free_axes(
    small: Config, native: Callable[..., bytes], save: Save, tmp_path: Path
) -> None:
    options = {"nms": True, "dynamic": True, "batch": 32}
    file = save(onnx.load_from_string(native(**options)))
    result = run_gate(small, DETECTION, file, tmp_path / "run")
    assert result.verdict.name == "equivalent", result.verdict.reason
    assert result.batching is not None and result.graph is not None
    # More than infer and the service run at once by default.
    assert result.batching["batch_sizes"] == [4, 1, 2, 3, 17]
    assert result.batching["input_sizes"] == [[256, 256], [288, 320]]
    assert max(result.batching["drift"].values()) < 1e-2
    assert "layout nms" in result.graph["reason"]
    said = list(notes(result, result.outcomes[0], small, {}))
    assert any("conf 0.25 (conf_threshold: 0.3), IoU 0.7 (iou_threshold: 0.5)" in s for s in said)
    assert not any("by name" in each for each in said)


def test_a_file_that_answers_no_more_images_than_it_was_exported_for_breaches(
    small: Config, native: Callable[..., bytes], save: Save, tmp_path: Path
) -> None:
    """Its axis N is free, and images from the ninth on have no boxes."""
    file = save(onnx.load_from_string(native(nms=True, dynamic=True, batch=8)))
    result = run_gate(small, DETECTION, file, tmp_path / "run")
    (breach,) = result.verdict.breaches
    assert (breach.figure, breach.where) == ("unmatched_rate", BATCH)


def test_an_nms_that_keeps_fewer_boxes_than_configured_breaches(
    detector: Bench, native: Callable[..., bytes], save: Save
) -> None:
    model = onnx.load_from_string(native(**NMS))
    model.graph.node[-1].output[0] = "all"
    model.graph.initializer.extend(
        numpy_helper.from_array(np.array([value]), name)
        for name, value in (("first", 0), ("end", 1), ("axis", 1))
    )
    cut = helper.make_node("Slice", ["all", "first", "end", "axis"], [model.graph.output[0].name])
    model.graph.node.append(cut)
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 1
    verdict, layout = detector.judge(save(model))
    assert verdict.name == "breach" and "unmatched_rate" in verdict.reason
    assert layout["nms"]["max_detections"] == detector.config.nms.max_detections


def test_a_file_without_padding_is_read_whatever_its_rows_are(
    detector: Bench, native: Callable[..., bytes], save: Save
) -> None:
    """[1,K,6], K boxes of an image: of the noise that tells the layout there are none."""
    model = onnx.load_from_string(native(**NMS))
    model.graph.node[-1].output[0] = "all"
    body = onnx.parser.parse_graph(
        "g (float[1,M,6] all) => (float[1,K,6] rows) {"
        "one = Constant<value_ints = [0]>() rows_of = Squeeze(all, one)"
        "at = Constant<value_int = 4>() scores = Gather<axis = 1>(rows_of, at)"
        "none = Constant<value_float = 0.0>() found = Greater(scores, none)"
        "kept = Compress<axis = 0>(rows_of, found) rows = Unsqueeze(kept, one) }"
    )
    model.graph.node.extend(body.node)
    model.graph.output[0].CopyFrom(body.output[0])
    verdict, layout = detector.judge(save(model))
    assert (verdict.name, verdict.reason) == ("equivalent", "")
    assert layout["nms"]["max_detections"] == detector.config.nms.max_detections


def test_outputs_that_are_not_compared_are_named(
    small: Config, native: Callable[..., bytes], save: Save, tmp_path: Path
) -> None:
    model = onnx.load_from_string(native(**NMS))
    raw = next(node.input[0] for node in model.graph.node if node.op_type == "Transpose")
    model.graph.output.insert(0, helper.make_tensor_value_info(raw, TensorProto.FLOAT, None))
    result = run_gate(small, DETECTION, save(model), tmp_path / "run")
    said = list(notes(result, result.outcomes[0], small, {}))
    assert any(f"is verified, and not {raw}" in each or "and not output0" in each for each in said)


def test_names_that_cannot_be_read_are_noted(classifier: Bench, save: Save, tmp_path: Path) -> None:
    model = bare_classifier(classifier.config)
    for key, value in (("author", "Ultralytics"), ("names", "{1: 'a'}")):
        model.metadata_props.add(key=key, value=value)
    result = run_gate(classifier.config, CLASSIFICATION, save(model), tmp_path / "run")
    assert result.verdict.name == "equivalent", result.verdict.reason
    said = " ".join(notes(result, result.outcomes[0], classifier.config, {}))
    assert "not compared by name: the names of its classes cannot be read ({1: 'a'})" in said
