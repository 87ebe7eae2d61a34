"""Graphs of OpenVINO's own: what is read of them, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import openvino
import pytest
from onnx import TensorProto, helper, numpy_helper

from pillsnap.core.errors import EngineError, PillsnapError
from pillsnap.core.modelfiles import model_files, named_model, sha256_model
from pillsnap.export import describe_model, stage_of_model
from pillsnap.export.suppression import Suppression

FLOAT = TensorProto.FLOAT


def save_ir(folder: Path, nodes: list[onnx.NodeProto], output: str, **numbers: float) -> Path:
    """A graph over images [N,3,8,8], as best.xml and best.bin in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("images", FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info(output, FLOAT, None)],
        [numpy_helper.from_array(np.array([each], np.float32), n) for n, each in numbers.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    source = folder / "best.onnx"
    onnx.save(model, source)
    path = folder / "best.xml"
    openvino.save_model(openvino.Core().read_model(str(source)), str(path), compress_to_fp16=False)
    source.unlink()
    return path


def save_classifier(folder: Path) -> Path:
    nodes = [helper.make_node("ReduceMean", ["images"], ["logits"], axes=[2, 3], keepdims=0)]
    return save_ir(folder, nodes, "logits")


def test_a_graph_is_told_by_its_shapes_and_hashed_with_its_weights(tmp_path: Path) -> None:
    path = save_classifier(tmp_path / "best_openvino_model")
    assert named_model(path.parent) == path
    assert stage_of_model(path) == "classification"
    found = describe_model(path, "classification")
    assert (found.path, found.dynamic_axes, found.suppression) == (path, True, None)
    assert found.sha256 == sha256_model(path)
    assert found.size_bytes() == sum(each.stat().st_size for each in model_files(path))
    assert found.summary()["opset"] is found.summary()["min_onnxruntime"] is None
    with pytest.raises(EngineError, match="is for classification, not for detection"):
        describe_model(path, "detection")
    path.with_suffix(".bin").write_bytes(path.with_suffix(".bin").read_bytes() + b"\0")
    assert sha256_model(path) != found.sha256


def test_metadata_beside_it_are_those_of_the_exporter(tmp_path: Path) -> None:
    path = save_classifier(tmp_path)
    beside = path.with_name("metadata.yaml")
    beside.write_text("author: Ultralytics\nstride: 32\nnames:\n  0: pill\nimgsz:\n- 8\n- 8\n")
    found = describe_model(path, "classification").metadata
    texts = {"stride": "32", "names": "{0: 'pill'}", "imgsz": "[8, 8]"}
    assert found == {"author": "Ultralytics", **texts}
    for text in ("- a list", "{", "author: !!python/object/apply:os.getcwd []"):
        beside.write_text(text)
        assert describe_model(path, "classification").metadata == {}


def test_the_thresholds_of_an_nms_inside_are_those_of_its_graph(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Reshape", ["images", "rows"], ["boxes"]),
        helper.make_node("ReduceMean", ["boxes"], ["means"], axes=[2], keepdims=0),
        helper.make_node("Unsqueeze", ["means", "one"], ["scores"]),
        helper.make_node("Greater", ["means", "least"], ["mask"]),
        helper.make_node("NonMaxSuppression", ["boxes", "scores", "most", "iou", "none"], ["kept"]),
        helper.make_node("Cast", ["kept"], ["floats"], to=FLOAT),
        helper.make_node("Cast", ["mask"], ["passed"], to=FLOAT),
        helper.make_node("ReduceSum", ["floats"], ["sum"], keepdims=0),
        helper.make_node("Add", ["boxes", "sum"], ["moved"]),
        helper.make_node("Unsqueeze", ["passed", "two"], ["each"]),
        helper.make_node("Mul", ["moved", "each"], ["rows_of_boxes"]),
    ]
    whole = {"rows": [-1, 48, 4], "one": [1], "two": [2], "most": [300]}
    constants = [
        helper.make_node(
            "Constant", [], [name], value=numpy_helper.from_array(np.array(value, np.int64))
        )
        for name, value in whole.items()
    ]
    path = save_ir(
        tmp_path, [*constants, *nodes], "rows_of_boxes", iou=0.6, none=-1e30, least=0.125
    )
    found = describe_model(path, "detection").suppression
    assert found == Suppression(conf_threshold=0.125, iou_threshold=0.6)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda path: path.write_text("no graph"), "not a whole model of OpenVINO"),
        (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1"), "git lfs"),
        (lambda path: path.with_suffix(".bin").unlink(), "cannot read the model"),
        (emptied, "not a whole model of OpenVINO"),
    ],
)
def test_what_is_no_graph_is_a_message(
    tmp_path: Path, change: Callable[[Path], object], words: str
) -> None:
    path = save_classifier(tmp_path)
    change(path)
    with pytest.raises(PillsnapError, match=words) as refused:
        describe_model(path, "classification")
    assert str(tmp_path) in str(refused.value)
