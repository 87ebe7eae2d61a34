"""Files of ultralytics' own exporter, in use: infer, the service and the pipeline in one file give
what pillsnap's own export gives."""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from pillsnap.config.cells import CLASSIFICATION, STAGES
from pillsnap.config.load import load_config
from pillsnap.config.settings import Config
from pillsnap.core.errors import PillsnapError
from pillsnap.core.files import point_latest
from pillsnap.export import describe_onnx, export_onnx
from pillsnap.infer.__main__ import main
from pillsnap.infer.pack import main as pack
from pillsnap.infer.standalone import FILE_NAME, publish_standalone, write_standalone
from pillsnap.pipeline.images import read_image
from pillsnap.pipeline.twostage import Result
from pillsnap.plugin.command import main as run
from pillsnap.serve.service import create_app
from tests.e2e.demo_project import DemoProject
from tests.gate.native import export_natively
from tests.serve.conftest import SMALL, client

SCENES = "combo/images/000[0-3].png"


class Natives:
    """A project of the demo at a small size, and its models as others export them."""

    def __init__(self, folder: Path) -> None:
        self.project = DemoProject(folder)
        self.project.settings["export"]["input_shape"]["detection"] = [1, 3, 256, 256]
        self.project.settings["export"]["compare"].update(sample_count=4, batch_size=4)
        self.project.write_config()
        self.folder = folder / "natives"
        self.folder.mkdir()
        self.paths = sorted(str(path) for path in self.project.images.glob(SCENES))

    @property
    def config(self) -> Config:
        return load_config(self.project.config, {})

    def detector(self, **options: Any) -> Path:
        name = "-".join([*options, "best.onnx"])
        path = self.folder / name
        if not path.exists():
            onnx.save(export_natively(self.config, self.folder, **options), path)
        return path

    def classifier(self) -> Path:
        """Of probabilities, that takes channels last."""
        path = self.folder / "probabilities.onnx"
        if not path.exists():
            model = onnx.load(export_onnx(self.config, CLASSIFICATION).path)
            del model.metadata_props[:]
            graph = model.graph
            softmax = helper.make_node("Softmax", [graph.output[0].name], ["parts"], axis=1)
            graph.node.append(softmax)
            graph.output[0].name = "parts"
            (image,) = graph.input
            first = helper.make_node("Transpose", ["last"], [image.name], perm=[0, 3, 1, 2])
            graph.node.insert(0, first)
            size = self.config.input_shape(CLASSIFICATION)[2:]
            shape = ["n", *size, 3]
            fed = helper.make_tensor_value_info("last", onnx.TensorProto.FLOAT, shape)
            del graph.input[:]
            graph.input.append(fed)
            onnx.save(model, path)
        return path

    def infer(self, capsys: pytest.CaptureFixture[str], **models: Path) -> list[Result]:
        capsys.readouterr()
        named = [word for name, path in models.items() for word in (f"--{name}", str(path))]
        how = ("--mode", "combo", "--provider", "cpu", "--threads", "1", "--batch", "2")
        assert (
            main(["--config", str(self.project.config), *how, *named, "--inputs", *self.paths]) == 0
        )
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    def own(self, capsys: pytest.CaptureFixture[str]) -> list[Result]:
        detector, model = (export_onnx(self.config, stage).path for stage in STAGES)
        return self.infer(capsys, detector=detector, model=model)

    def shipped(self, folder: Path) -> list[Result]:
        """What the pipeline in one file answers."""
        spec = importlib.util.spec_from_file_location("shipped", folder / FILE_NAME)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # where dataclasses look themselves up
        spec.loader.exec_module(module)
        pipeline = module.load(threads=1, batch_size=2)
        results = pipeline.run([read_image(Path(path)) for path in self.paths], "combo")
        return [{"image": path, **each} for path, each in zip(self.paths, results, strict=True)]


@pytest.fixture(scope="module")
def natives(one_torch_thread: None, tmp_path_factory: pytest.TempPathFactory) -> Natives:
    return Natives(tmp_path_factory.mktemp("native"))


def assert_same(found: list[Result], own: list[Result]) -> None:
    """The same boxes and codes within rounding."""
    assert sum(len(each["boxes"]) for each in own) > 4
    for ours, theirs in zip(own, found, strict=True):
        assert len(ours["boxes"]) == len(theirs["boxes"])
        assert not theirs["truncated"]
        for mine, other in zip(ours["boxes"], theirs["boxes"], strict=True):
            np.testing.assert_allclose(other["xyxy"], mine["xyxy"], atol=0.02)
            assert other["confidence"] == pytest.approx(mine["confidence"], abs=1e-4)
            assert other["class_id"] == mine["class_id"]
            assert other["pill"]["code"] == mine["pill"]["code"]
            assert other["pill"]["confidence"] == pytest.approx(
                mine["pill"]["confidence"], abs=1e-3
            )


@pytest.mark.parametrize(
    "options", [{"batch": 3}, {"nms": True, "conf": 0.25, "iou": 0.7}, {"quantize": 16}]
)
def test_infer_and_the_shipped_pipeline_run_it(
    natives: Natives, capsys: pytest.CaptureFixture[str], tmp_path: Path, options: dict[str, Any]
) -> None:
    config, files = natives.config, (natives.detector(**options), natives.classifier())
    found = natives.infer(capsys, detector=files[0], model=files[1])
    if options != {"quantize": 16}:  # whose boxes are the half's
        assert_same(found, natives.own(capsys))
    models = {}
    for stage, file in zip(STAGES, files, strict=True):
        copied = tmp_path / file.name
        copied.write_bytes(file.read_bytes())
        models[stage] = describe_onnx(copied, stage)
    write_standalone(config, models, tmp_path)
    shipped = natives.shipped(tmp_path)
    assert [without_provider(each) for each in shipped] == [
        without_provider(each) for each in found
    ]


def without_provider(result: Result) -> Result:
    return {**result, "models": {k: v["sha256"] for k, v in result["models"].items()}}


def test_what_the_gate_has_passed_is_served_and_packed(
    natives: Natives,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    project, files = natives.project, (natives.detector(nms=True), natives.classifier())
    monkeypatch.setenv("DETECTION_MODEL_PATH", str(files[0]))
    monkeypatch.setenv("CLASSIFICATION_MODEL_PATH", str(files[1]))
    ship = tmp_path / "ship"
    packing = ["--out", str(ship), "--config", str(project.config)]
    with pytest.raises(
        PillsnapError, match="does not stand behind this detection model"
    ) as refused:
        pack(packing)
    assert "pillsnap gate --candidate detection=" in str(refused.value)
    named = [f"--candidate={stage}={file}" for stage, file in zip(STAGES, files, strict=True)]
    done = project.run("pytest", "-m", "smoke", "-q", "--provider", "cpu", "--threads", "1", *named)
    assert done.returncode == 0, done.stdout
    assert [cell["layout"]["name"] for cell in project.report()["cells"]] == [
        "nms",
        "probabilities",
    ]
    own = natives.own(capsys)
    # As docs/service.md has it.
    for name, file in zip(("best.onnx", "pills.onnx"), files, strict=True):
        (tmp_path / name).write_bytes(file.read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PILLSNAP_CONFIG", str(project.config))
    command = "pillsnap pipeline --out ship/ --detector best.onnx --model pills.onnx"
    assert run(command.split()[1:]) == 0
    assert_same(natives.shipped(ship), own)
    assert sorted(path.name for path in ship.glob("*.onnx")) == [
        "classification-pills.onnx",
        "detection-best.onnx",
    ]
    config = replace(natives.config, serve=SMALL)
    environ = {"DETECTION_MODEL_PATH": str(files[0]), "CLASSIFICATION_MODEL_PATH": str(files[1])}
    with client(create_app(config, environ)) as service:
        assert {each["verified"] for each in service.get("/version").json()["models"].values()} == {
            True
        }
        sent = [("image", (path, Path(path).read_bytes())) for path in natives.paths]
        answer = service.post("/predict", files=sent, data={"mode": "combo"})
    assert_same(answer.json()["results"], own)


def test_a_link_of_ones_own_to_a_file_that_lies_elsewhere_is_published(
    natives: Natives, capsys: pytest.CaptureFixture[str]
) -> None:
    config, detector = natives.config, natives.detector()
    found = natives.infer(capsys, detector=detector, model=natives.classifier())
    point_latest(config.out_dir / "latest_classification.onnx", natives.classifier())
    (config.out_dir / "latest_detection.onnx").symlink_to(detector)
    publish_standalone(config)
    assert_same(natives.shipped(config.out_dir), found)
