"""`pillsnap infer` and `pillsnap pipeline` over small files of other exporters."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from pillsnap.core.errors import EngineError, PillsnapError
from pillsnap.core.hashes import sha256_file
from pillsnap.infer import __main__ as infer
from pillsnap.infer.pack import main as pack
from tests.infer.test_foreign_onnx import save_constant
from tests.report.report_folder import Reports


class Project:
    """A folder with a config, an image, and reports that judge what a test says."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.out_dir = folder / "exp/export"
        (self.out_dir / "reports").mkdir(parents=True)
        self.reports = Reports(self.out_dir / "reports")
        shape = [1, 3, 32, 32]
        settings = {
            "paths": {"exp_dir": "exp"},
            "detection": {"model": "yolo11n", "num_classes": 2},
            "classification": {"backbone": "test_resnet", "num_classes": 5},
            "data": {"class_map": "class_map.json"},
            "export": {"input_shape": {"detection": shape, "classification": shape}},
        }
        codes = {f"K-{number:06}": number for number in range(5)}
        (folder / "class_map.json").write_text(json.dumps(codes))
        self.config = folder / "config.yaml"
        self.config.write_text(yaml.safe_dump(settings))
        self.image = folder / "image.png"
        Image.fromarray(np.full((32, 32, 3), 128, np.uint8)).save(self.image)

    def infer(self, *options: str | os.PathLike[str]) -> int:
        how = ["--config", self.config, "--inputs", self.image, "--threads", "1", *options]
        return infer.main([str(each) for each in how])

    def classifier(self, name: str, *, beside: bool = False) -> Path:
        """One that always answers class 1, with its weights in NAME.data where asked for."""
        rows = np.array([[0.0, 9.0, 0.0, 0.0, 0.0]])
        path = save_constant(self.folder / name, rows, [1, "classes"])
        if beside:
            weights = f"{name}.data"
            onnx.save(
                onnx.load(path),
                path,
                save_as_external_data=True,
                location=weights,
                size_threshold=0,
            )
        return path


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_a_report_vouches_for_the_weights_beside_the_file_that_it_judged(
    project: Project, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    path = project.classifier("pills.onnx", beside=True)
    beside = path.with_name("pills.onnx.data")
    project.reports.add(
        "equivalent", sha256=sha256_file(path), weights={beside.name: sha256_file(beside)}
    )
    codes = []
    for changes in (False, True):
        if changes:
            data = beside.read_bytes()
            one, nine = np.float32(9).tobytes(), np.float32(0).tobytes()
            beside.write_bytes(data.replace(one + nine, nine + one, 1))
        assert project.infer("--model", path) == 0
        codes.append(json.loads(capsys.readouterr().out)["code"])
        assert ("does not stand behind the classification model" in caplog.text) is changes
    assert codes == ["K-000001", "K-000002"]
    assert "98.json: of other weights in the files beside it" in caplog.text


def test_a_folder_that_shipped_before_is_left_whole_where_a_model_cannot_be_packed(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is written before all is checked, and nothing is renamed before all is written."""
    path, ship = project.classifier("pills.onnx"), project.folder / "ship"
    project.reports.add("equivalent", sha256=sha256_file(path))
    packing = ["--config", str(project.config), "--model", str(path), "--out"]
    assert pack([*packing, str(ship)]) == 0
    assert Path(capsys.readouterr().out.strip()) == ship / "pillsnap_pipeline.py"
    shipped = contents(ship)
    assert sorted(shipped) == ["classification-pills.onnx", "pillsnap_pipeline.py"]
    assert shipped["classification-pills.onnx"] == path.read_bytes()

    path = project.classifier("pills.onnx", beside=True)
    beside = path.with_name("pills.onnx.data")
    weights = {beside.name: sha256_file(beside)}
    project.reports.add("equivalent", sha256=sha256_file(path), weights=weights)
    for folder in (ship, project.folder / "new"):
        with pytest.raises(EngineError, match="takes models in one file"):
            pack([*packing, str(folder)])
    assert contents(ship) == shipped
    assert not (project.folder / "new").exists()

    project.classifier("pills.onnx")
    (ship / "classification-pills.onnx").unlink()
    (ship / "classification-pills.onnx").mkdir()  # no file can be renamed over it
    with pytest.raises(PillsnapError, match="cannot write"):
        pack([*packing, str(ship)])
    assert (ship / "pillsnap_pipeline.py").read_bytes() == shipped["pillsnap_pipeline.py"]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_detector_gives_each_image_as_many_rows_as_it_has_boxes(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    """NMS inside, one image at a time, [1,K,6]: the brighter the image, the more boxes."""
    path, photos = save_counting(project.folder / "boxes.onnx"), project.folder / "photos"
    photos.mkdir()
    for value in (0, 128, 255):
        photo = Image.fromarray(np.full((32, 32, 3), value, np.uint8))
        photo.save(photos / f"{value:03}.png")
    for batch in ("1", "3"):
        given = ("--model", path, "--batch", batch, "--inputs", photos / "*.png")
        assert project.infer(*given) == 0
        found = [json.loads(line)["boxes"] for line in capsys.readouterr().out.splitlines()]
        assert [len(boxes) for boxes in found] == [0, 1, 3]


def save_counting(path: Path) -> Path:
    """A detector of up to three boxes, as many as three times an image's mean."""
    rows = np.array([[[4.0 * n, 4.0, 4.0 * n + 8, 20.0, 0.9 - n / 10, 1.0] for n in range(3)]])
    values = {"three": [3.1], "nought": [0], "axis": [1], "rows": rows}
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Mul", ["mean", "three"], ["many"]),
        helper.make_node("Cast", ["many"], ["count"], to=TensorProto.INT64),
        helper.make_node("Slice", ["rows", "nought", "count", "axis"], ["output"]),
    ]
    graph = helper.make_graph(
        nodes,
        "counting",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 32, 32])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, "boxes", 6])],
        [
            numpy_helper.from_array(
                np.array(value, np.int64 if name in ("nought", "axis") else np.float32), name
            )
            for name, value in values.items()
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("command", ["infer", "pipeline"])
def test_a_model_under_the_option_of_the_other_is_told_its_own(
    project: Project, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    path = project.classifier("pills.onnx")
    if command == "infer":
        assert project.infer("--mode", "combo", "--model", path, "--detector", path) == 2
        told = capsys.readouterr().err
    else:
        with pytest.raises(EngineError) as refused:
            pack(["--config", str(project.config), "--detector", str(path), "--out", "ship"])
        told = str(refused.value)
    assert "is for classification, not for detection" in told
    assert "--model of infer and pipeline" in told
