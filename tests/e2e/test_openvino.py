"""The gate on OpenVINO, on the demo's models."""

from __future__ import annotations

import ast
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino
import pytest
import yaml

from pillsnap.config.cells import STAGES
from pillsnap.config.load import load_config
from pillsnap.export import export_onnx
from pillsnap.infer.__main__ import main
from pillsnap.serve.service import create_app
from tests.e2e.demo_project import DemoProject
from tests.gate.native import export_natively
from tests.serve.conftest import SMALL, client

GATE = ("pytest", "-m", "smoke", "--engine", "openvino", "--threads", "1", "-q")


def test_both_stages_are_as_exact_as_torch(project: DemoProject) -> None:
    project.settings["export"]["compare"].update(sample_count=4, batch_size=4)
    project.write_config()
    done = project.run(*GATE)
    assert done.returncode == 0, done.stdout + done.stderr
    report = project.report()
    for cell in report["cells"]:
        assert cell["verdict"] == "equivalent"
        assert cell["execution"]["precision"]["compute_nodes_by_type"].keys() == {"fp32"}
        assert cell["performance"]["peak_memory_mib"] > 10
        assert {1, 3, 4} <= set(cell["batching"]["batch_sizes"])
    assert "OpenVINO CPU: 90 of 90 compute nodes, in fp32" in done.stdout
    assert report["environment"]["packages"]["openvino"]
    # What ONNX Runtime serves is approved on its own provider alone, and found by no link.
    assert not list(project.out_dir.glob("latest_*.onnx"))
    assert {each["provider"] for each in report["gate"]["approvals"]} == {"OpenVINO CPU"}


def save_ir(model: onnx.ModelProto, folder: Path) -> Path:
    """As `yolo export format=openvino` leaves it: best.xml, best.bin and metadata.yaml."""
    folder.mkdir()
    onnx.save(model, folder / "best.onnx")
    graph = openvino.Core().read_model(str(folder / "best.onnx"))
    openvino.save_model(graph, str(folder / "best.xml"), compress_to_fp16=False)
    (folder / "best.onnx").unlink()
    entries = {entry.key: entry.value for entry in model.metadata_props}
    told = {key: ast.literal_eval(entries[key]) for key in ("names", "imgsz", "stride")}
    facts = {"author": entries["author"], "task": entries["task"], **told}
    (folder / "metadata.yaml").write_text(yaml.safe_dump(facts))
    return folder


def test_a_folder_that_others_exported_is_judged_and_served(
    project: DemoProject,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The detector as ultralytics writes it; the classifier with a fault inside."""
    project.settings["export"]["input_shape"]["detection"] = [1, 3, 256, 256]
    project.settings["export"]["compare"].update(sample_count=4, batch_size=4)
    project.settings["pipeline"]["engine"] = "openvino"
    project.write_config()
    config = load_config(project.config, {})
    detector = save_ir(export_natively(config, tmp_path, nms=True), tmp_path / "detector")
    exported = onnx.load(export_onnx(config, "classification").path)
    faulty = tmp_path / "faulty.xml"
    scaled = next(each for each in exported.graph.initializer if len(each.dims) == 4)
    scaled.CopyFrom(
        onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(scaled) * 1.02, scaled.name)
    )
    onnx.save(exported, tmp_path / "faulty.onnx")
    openvino.save_model(
        openvino.Core().read_model(str(tmp_path / "faulty.onnx")), faulty, compress_to_fp16=False
    )
    named = (f"--candidate=detection={detector}", f"--candidate=classification={faulty}")
    done = project.run(*GATE, *named)
    assert done.returncode == 1, done.stdout
    verdicts = {cell["stage"]: cell["verdict"] for cell in project.report()["cells"]}
    assert verdicts == {"detection": "equivalent", "classification": "breach"}
    scene = str(project.images / "combo/images/0003.png")

    def infer(provider: str, *models: str) -> list[dict[str, Any]]:
        how = ("--mode", "combo", "--threads", "1", "--config", str(project.config))
        assert main([*how, *models, "--inputs", scene]) == 0
        (line,) = capsys.readouterr().out.splitlines()
        answer: dict[str, Any] = json.loads(line)
        assert {each["provider"] for each in answer["models"].values()} == {provider}
        boxes: list[dict[str, Any]] = answer["boxes"]
        return boxes

    own = [str(export_onnx(config, stage).path) for stage in STAGES]
    files = ("--model", own[1], "--detector")
    wanted = infer("CPUExecutionProvider", "--engine", "onnx", *files, own[0])
    assert wanted
    for given in (own[0], str(detector)):
        detected = infer("OpenVINO CPU", *files, given)
        for box, right in zip(detected, wanted, strict=True):
            np.testing.assert_allclose(box["xyxy"], right["xyxy"], atol=0.02)
            assert box["pill"]["code"] == right["pill"]["code"]

    capsys.readouterr()
    assert main(["--config", str(project.config), "--model", str(faulty), "--inputs", scene]) == 0
    assert "the gate does not stand behind the classification model" in caplog.text
    assert "classification-openvino-auto-fp32-smoke, breach" in caplog.text

    serve = replace(SMALL, allow_unverified=True)
    paths = {"DETECTION_MODEL_PATH": str(detector), "CLASSIFICATION_MODEL_PATH": str(faulty)}
    with client(create_app(replace(config, serve=serve), paths)) as service:
        served = service.get("/version").json()["models"]
        answer = service.post("/predict", files={"image": Path(scene).read_bytes()})
    assert {stage: each["verified"] for stage, each in served.items()} == {
        "detection": True,
        "classification": False,
    }
    assert {each["provider"] for each in served.values()} == {"OpenVINO CPU"}
    assert answer.status_code == 200


def test_int8_by_nncf_holds_its_profile(project: DemoProject) -> None:
    """On the engine that it is for; the other says so."""
    project.settings["export"]["compare"].update(sample_count=8, batch_size=8)
    project.settings["export"]["quantize"]["calibration_images"] = 8
    project.write_config()
    options = ("--precision", "int8", "--int8-method", "nncf", "--engine", "onnx")
    done = project.run(*GATE, "--stage", "classification", *options)
    assert done.returncode == 1
    cells = {cell["engine"]: cell for cell in project.report()["cells"]}
    assert cells["openvino"]["verdict"] == "within_tolerance"
    assert cells["openvino"]["execution"]["precision"]["compute_nodes_by_type"] == {"int8": 16}
    assert cells["openvino"]["quantized"]["method"] == "nncf"
    assert "int8 nncf: 16 nodes in int8, 0 in float32" in done.stdout
    assert cells["onnx"]["reason"].startswith("method nncf makes graphs of OpenVINO")
    assert len(list(project.out_dir.glob("classification-*-int8-nncf.xml"))) == 1


def test_without_the_library_the_command_is_named(project: DemoProject) -> None:
    project.hide_module("openvino")
    done = project.run(*GATE, "--stage", "classification")
    assert done.returncode == 1
    said = " ".join(done.stdout.split())
    assert "openvino is not installed" in said
    assert "try: pip install" in said
