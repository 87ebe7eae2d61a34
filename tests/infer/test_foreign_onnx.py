"""ONNX files that others made: measured whole, refused in words where they cannot be read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from pillsnap.config.settings import Classification, Config, Detection, Export, InputShape, Paths
from pillsnap.core.errors import EngineError, PillsnapError
from pillsnap.core.hashes import sha256_file
from pillsnap.engines.layouts import LAYOUTS
from pillsnap.engines.onnxruntime.feeding import input_shape
from pillsnap.engines.onnxruntime.sessions import Session, open_session
from pillsnap.export import describe_onnx
from pillsnap.infer.models import Opened, make_pipeline, open_model
from pillsnap.pipeline.layouts import READERS
from pillsnap.pipeline.nms import take_boxes
from pillsnap.pipeline.softmax import softmax
from tests.small_models import Experiment

FLOAT = TensorProto.FLOAT
CONFIG = Config(
    Paths(Path("exp")),
    detection=Detection("yolo11n", 2),
    classification=Classification("test_resnet", 5),
    export=Export(input_shape=InputShape((1, 3, 32, 32), (1, 3, 32, 32))),
)


def save_constant(path: Path, output: np.ndarray, shape: list[str | int | None]) -> Path:
    """A model that answers every batch of images with `output`, which it says is of `shape`."""
    nodes = [
        helper.make_node("ReduceSum", ["images"], ["sum"], keepdims=0),
        helper.make_node("Mul", ["sum", "zero"], ["nothing"]),
        helper.make_node("Add", ["rows", "nothing"], ["output"]),
    ]
    graph = helper.make_graph(
        nodes,
        "constant",
        [helper.make_tensor_value_info("images", FLOAT, ["n", 3, "h", "w"])],
        [helper.make_tensor_value_info("output", FLOAT, shape)],
        [
            helper.make_tensor("zero", FLOAT, [], [0.0]),
            onnx.numpy_helper.from_array(output.astype(np.float32), "rows"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(path))
    return path


def answer(path: Path, stage: str) -> np.ndarray:
    opened = open_model(CONFIG, stage, path, provider="cpu", threads=1, engine="onnx")
    return opened.run(np.zeros((1, 3, 32, 32), np.float32))


BOX = [4.0, 4.0, 20.0, 20.0, 0.9, 1.0]


def test_rows_of_boxes_are_taken_whoever_made_the_file(tmp_path: Path) -> None:
    path = save_constant(tmp_path / "m.onnx", np.array([[BOX]]), [1, "boxes", 6])
    assert answer(path, "detection").shape == (1, 1, 6)


def test_what_is_not_finite_is_no_other_column(tmp_path: Path) -> None:
    rows = np.array([[BOX, [*BOX[:4], np.nan, 1.0]]])
    path = save_constant(tmp_path / "m.onnx", rows, [1, "boxes", 6])
    np.testing.assert_array_equal(answer(path, "detection"), rows.astype(np.float32))


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (np.full((1, 6, 21), 92.0), r"output \[1, 6, 21\]"),  # [N,4+classes,anchors]
        (np.full((1, 21, 8), 0.5), r"output \[1, 21, 8\]"),
        (np.array([[[*BOX[:4], 92.0, 1.0]]]), "of no known layout"),
        (np.array([[[*BOX[:4], 0.9, 0.75]]]), "of no known layout"),
        (np.array([[[*BOX[:4], 0.9, 2.0]]]), "of no known layout"),
    ],
)
def test_a_detector_with_other_columns_gives_no_boxes(
    tmp_path: Path, rows: np.ndarray, words: str
) -> None:
    path = save_constant(tmp_path / "m.onnx", rows, [1, "a", "b"])
    with pytest.raises(PillsnapError, match=f"(?s){words}") as caught:
        answer(path, "detection")
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("wrong", [[92.0, 1.0], [0.9, 0.75], [0.9, 2.0], [-0.1, 0.0]])
def test_columns_that_are_others_for_some_image_give_no_boxes(
    tmp_path: Path, wrong: list[float]
) -> None:
    """The layout is told by noise; this one answers otherwise to a black image."""
    path = save_constant(tmp_path / "m.onnx", np.array([[BOX]]), [1, "a", "b"])
    model = onnx.load(path)
    del model.graph.node[1:]
    black = np.array([[[*BOX[:4], *wrong]]], np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(black, "black"))
    model.graph.node.extend(
        [
            helper.make_node("Greater", ["sum", "zero"], ["seen"]),
            helper.make_node("Where", ["seen", "rows", "black"], ["output"]),
        ]
    )
    onnx.save(model, path)
    with pytest.raises(EngineError, match="columns are not box, score and class") as caught:
        answer(path, "detection")
    assert str(path) in str(caught.value)


def test_a_classifier_of_another_class_count_names_no_codes(tmp_path: Path) -> None:
    path = save_constant(tmp_path / "m.onnx", np.zeros((1, 7)), [1, "classes"])
    with pytest.raises(PillsnapError, match=r"(?s)output \[1, 7\].*expected: for 5 classes"):
        answer(path, "classification")


def test_boxes_of_ultralytics_own_layout_are_read(tmp_path: Path) -> None:
    """Centre and size, and two classes: a column a box."""
    rows = np.zeros((1, 6, 21), np.float32)
    rows[0, :, :] = np.array([[20, 16, 8, 12, 0.1, 0.7]]).T
    path = save_constant(tmp_path / "m.onnx", rows, [1, "a", "b"])
    expected = np.tile(np.array([16, 10, 24, 22, 0.7, 1], np.float32), (1, 21, 1))
    np.testing.assert_allclose(answer(path, "detection"), expected)


def test_probabilities_are_not_taken_for_logits(tmp_path: Path) -> None:
    parts = np.array([[0.5, 0.25, 0.125, 0.0625, 0.0625]])
    path = save_constant(tmp_path / "m.onnx", parts, [1, "classes"])
    np.testing.assert_allclose(softmax(answer(path, "classification")), parts, rtol=1e-6)


def with_nms(path: Path) -> Path:
    """The same with an NMS among its operators."""
    model = onnx.load(path)
    model.graph.node.append(helper.make_node("NonMaxSuppression", ["boxes", "scores"], ["kept"]))
    for name, shape in (("boxes", [1, 1, 4]), ("scores", [1, 1, 1])):
        zeros = np.zeros(shape, np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(zeros, name))
    onnx.save(model, path)
    return path


def one_to_one(path: Path) -> Path:
    """The same as ultralytics marks a head that needs no NMS."""
    model = onnx.load(path)
    helper.set_model_props(model, {"end2end": "True"})
    onnx.save(model, path)
    return path


@pytest.mark.parametrize(
    ("made", "scores"), [(with_nms, [0.9, 0.8, 0.1]), (one_to_one, [0.9, 0.8])]
)
def test_final_boxes_go_through_no_nms_again(
    tmp_path: Path, made: Callable[[Path], Path], scores: list[float]
) -> None:
    """After an NMS inside all of them; of a one-to-one head those above the threshold."""
    near = [[4.0, 4.0, 20.0, 20.5, 0.8, 1.0], [4.0, 4.0, 20.5, 20.0, 0.1, 1.0]]
    rows = np.array([[BOX, *near, [0.0] * 6]])
    path = made(save_constant(tmp_path / "m.onnx", rows, [1, "boxes", 6]))
    opened = open_model(CONFIG, "detection", path, provider="cpu", threads=1, engine="onnx")
    pipeline = make_pipeline(CONFIG, {"detection": opened}, 1)
    (result,) = pipeline.run([np.zeros((32, 32, 3), np.uint8)], "boxes")
    assert [box["confidence"] for box in result["boxes"]] == pytest.approx(scores)
    assert not result["truncated"]


def test_thresholds_of_a_file_that_are_not_the_configured_ones_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = with_nms(save_constant(tmp_path / "m.onnx", np.array([[BOX]]), [1, "boxes", 6]))
    model = onnx.load(path)
    inside = {"most": np.array([9]), "iou": np.float32([0.7]), "conf": np.float32([0.25])}
    for name, value in inside.items():
        model.graph.node[-1].input.append(name)
        model.graph.initializer.append(onnx.numpy_helper.from_array(value, name))
    onnx.save(model, path)
    open_model(CONFIG, "detection", path, provider="cpu", threads=1, engine="onnx")
    own = CONFIG.nms
    assert f"conf 0.25 (conf_threshold: {own.conf_threshold}), IoU 0.7 (iou" in caplog.text


@pytest.mark.parametrize(
    ("name", "provider", "words"),
    [
        ("best.xml", "cpu", r"(?s)engine onnx does not run this file.*openvino"),
        ("best.onnx", "npu", r"(?s)engine onnx does not run on provider npu.*auto, cpu, cuda"),
    ],
)
def test_what_an_engine_does_not_run_is_refused(name: str, provider: str, words: str) -> None:
    with pytest.raises(EngineError, match=words):
        open_model(CONFIG, "detection", Path(name), provider=provider, threads=1, engine="onnx")


def test_as_many_final_boxes_as_rows_may_not_be_all() -> None:
    rows = np.array([BOX, [*BOX[:4], 0.5, 1.0]], np.float32)
    for given, truncated in ((rows, True), (np.vstack([rows, np.zeros(6, np.float32)]), False)):
        kept, cut = take_boxes(given, above=0.0)
        assert (kept.tolist(), cut) == ([0, 1], truncated)


def test_the_shipped_pipeline_has_a_reader_for_every_layout() -> None:
    assert {each.name: each.read for each in LAYOUTS} == READERS


def test_a_file_is_read_as_the_report_that_passed_it_has_read_it(
    tmp_path: Path, experiment: Experiment
) -> None:
    """Of what it answers alone it could be either, or would be something else."""
    config = experiment(backbone="test_resnet", classes=5)
    both = save_constant(tmp_path / "both.onnx", np.arange(5.0)[None], ["n", "c"])
    model = onnx.load(both)
    model.graph.node.append(helper.make_node("Neg", ["output"], ["second"]))
    model.graph.output.append(helper.make_tensor_value_info("second", FLOAT, ["n", "c"]))
    onnx.save(model, both)
    near = [4.0, 4.0, 20.0, 20.5, 0.8, 0.0]
    rows = np.array([[[4.0, 4.0, 20.0, 20.0, 0.9, 0.0], near]])
    boxes = save_constant(tmp_path / "boxes.onnx", rows, [1, "boxes", 6])

    def opened(stage: str, path: Path) -> Opened:
        return open_model(config, stage, path, provider="cpu", threads=1, engine="onnx")

    def final_above() -> float | None:
        return opened("detection", boxes).final_above

    with pytest.raises(PillsnapError, match="of more than one layout"):
        opened("classification", both)
    assert final_above() is None
    write_report(
        config,
        {
            both: ("classification", "logits", "second"),
            boxes: ("detection", "end-to-end", "output"),
        },
    )
    answer = opened("classification", both).run(np.zeros((1, 3, 64, 64), np.float32))
    assert answer[0].tolist() == [0, -1, -2, -3, -4]
    assert final_above() == config.nms.conf_threshold
    # Of another engine, which names its outputs otherwise.
    write_report(config, {boxes: ("detection", "end-to-end", "output 0")})
    assert final_above() is None


def write_report(config: Config, layouts: dict[Path, tuple[str, str, str]]) -> None:
    """A report that has passed files, and says how it read them."""
    cells = [
        {
            "id": stage,
            "stage": stage,
            "precision": "fp32",
            "verdict": "equivalent",
            "breaches": [],
            "quantized": None,
            "execution": {"providers": ["CPUExecutionProvider"]},
            "layout": {"name": name, "outputs": [output]},
        }
        for stage, name, output in layouts.values()
    ]
    models = {stage: sha256_file(path) for path, (stage, *_) in layouts.items()}
    origin = {"started_at_utc": "2025-01-01T00:00:00Z", "models_sha256": models}
    origin |= {"config_sha256": "", "checkpoints_sha256": {}, "data_fingerprint": {}}
    report = {"provenance": origin, "gate": {"complete": True}, "cells": cells}
    folder = config.out_dir / "reports"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(json.dumps(report))


@pytest.mark.parametrize(
    ("kind", "shape", "words"),
    [
        (TensorProto.UINT8, ["n", 3, 8, 8], "tensor(uint8), float32 is fed"),
        (FLOAT, [2, 3, 8, 8], "dynamic_axes: true"),
    ],
)
def test_an_input_that_does_not_fit_is_called_what_it_is(
    kind: int, shape: list[str | int], words: str
) -> None:
    session = open_same(kind, shape)
    with pytest.raises(EngineError) as caught:
        session.run(np.zeros((1, 3, 8, 8), np.float32))
    hint = str(caught.value).split("try:")[-1]
    assert words in " ".join(hint.split())


def open_same(kind: int, shape: list[str | int]) -> Session:
    """A model that answers the images that it is given."""
    graph = helper.make_graph(
        [helper.make_node("Identity", ["images"], ["output"])],
        "same",
        [helper.make_tensor_value_info("images", kind, shape)],
        [helper.make_tensor_value_info("output", kind, shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return open_session(model.SerializeToString(), "cpu", 1)


@pytest.mark.parametrize("kind", [FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE])
def test_images_are_fed_in_the_type_and_the_order_of_the_file(kind: int) -> None:
    images = np.random.default_rng(0).random((2, 3, 8, 6), np.float32)
    rounded = images.astype(helper.tensor_dtype_to_np_dtype(kind)).astype(np.float32)
    np.testing.assert_array_equal(open_same(kind, ["n", 3, "h", "w"]).run(images), rounded)
    last = open_same(kind, ["n", "h", "w", 3])
    np.testing.assert_array_equal(last.run(images), rounded.transpose(0, 2, 3, 1))
    assert input_shape(last.ort) == ("n", 3, "h", "w")


def test_weights_beside_the_graph_count_in_its_size(tmp_path: Path) -> None:
    whole = save_constant(tmp_path / "one.onnx", np.zeros((1, 999, 6)), [1, "boxes", 6])
    beside = tmp_path / "two" / "model.onnx"
    beside.parent.mkdir()
    onnx.save(
        onnx.load(whole),
        beside,
        save_as_external_data=True,
        location="model.onnx.data",
        size_threshold=0,
    )
    size, there = (describe_onnx(path, "detection").size_bytes() for path in (whole, beside))
    assert size == whole.stat().st_size > 999 * 24
    assert there == sum(file.stat().st_size for file in beside.parent.iterdir())
    link = tmp_path / "latest.onnx"
    link.symlink_to(beside)
    assert describe_onnx(link, "detection").size_bytes() == there
