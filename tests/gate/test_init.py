"""`pillsnap init`: what is read from checkpoints and data, and what is left to be filled in."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import yaml
from safetensors.torch import save_file

from pillsnap.config.load import load_config
from pillsnap.config.settings import Config
from pillsnap.core.errors import ConfigError
from pillsnap.gate.init import main
from tests.small_models import make_classifier, make_detector, save_detector

NAMES = ("알약", "café: #1", "no")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def detector(one_torch_thread: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = make_detector("yolov8n", 3)
    model.names = dict(enumerate(NAMES))
    path = tmp_path_factory.mktemp("detector") / "best.pt"
    return save_detector(
        model, path, train_args={"imgsz": 500, "single_cls": True, "data": "told.yaml"}
    )


def save_classifier(path: Path, backbone: str = "test_resnet", **content: Any) -> Path:
    state = make_classifier(backbone, 4).state_dict()
    torch.save({"state_dict": state, **content} if content else state, path)
    return path


def draw_folders(*names: str) -> None:
    for name in names:
        folder = Path("val", name)
        folder.mkdir(parents=True)
        (folder / "1.jpg").touch()


def init(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> str:
    assert main([str(each) for each in arguments]) == code
    told = capsys.readouterr()
    assert bool(told.err) is bool(code), told.err
    return told.err if code else told.out


def written(path: str = "config.yaml") -> Config:
    return load_config(Path(path), {})


def to_fill(path: str = "config.yaml") -> dict[str, str]:
    """Choices by key of the lines that the gate's config refuses."""
    with pytest.raises(ConfigError) as caught:
        written(path)
    lines = Path(path).read_text().splitlines()
    found = {}
    for number, text in enumerate(lines, start=1):
        key, fill, choices = text.strip().partition(": FILL  # FILL: ")
        if fill:
            assert f"{path}:{number}: " in str(caught.value)
            found[key] = choices
    return found


def test_a_detector_with_its_data(detector: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("pills/images").mkdir(parents=True)
    Path("pills/images/a.jpg").touch()
    Path("data.yaml").write_text("path: pills\nval: images\nnames: [알약, b, c]\n")
    told = init(capsys, "--detector", detector, "--detector-data", "data.yaml")
    config = written()
    assert (config.detection.model, config.detection.num_classes) == ("yolov8n", 3)
    assert config.detection.checkpoint == detector
    assert config.export.input_shape.detection == (1, 3, 512, 512)  # as its trainer rounds 500
    combo = config.data.val.combo
    assert combo is not None and combo.images == Path("data.yaml").absolute()
    assert combo.single_cls and config.data.val.single is None
    assert "num_classes: 3  # 0 알약, 1 café: #1, 2 no" in Path("config.yaml").read_text()
    assert "classes: 3 (0 알약, 1 café: #1, 2 no), 512 x 512 pixels" in told
    assert "1 images, background without a label file: 1; classes: 0 알약, 1 b, 2 c" in told
    assert told.endswith("next: pillsnap gate --stage detection\n")


def test_a_folder_of_images(detector: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in ("d/images/val", "d/labels/val", "other"):
        Path(folder).mkdir(parents=True)
        Path(folder, "a.jpg").touch()
    init(capsys, "--detector", detector, "--detector-data", "d/images/val", "--out", "c/a.yaml")
    combo = written("c/a.yaml").data.val.combo
    assert combo is not None and combo.labels is not None
    assert combo.images.samefile("d/images/val") and combo.labels.samefile("d/labels/val")
    told = init(capsys, "--detector", detector, "--detector-data", "other", "--out", "b.yaml")
    combo = written("b.yaml").data.val.combo
    assert combo is not None and combo.labels is None
    assert "1 images, no labels" in told and "--config=b.yaml" in told
    out = Path("config.yaml").absolute()  # in a command by the place that moves with the repository
    told = init(capsys, "--detector", detector, "--detector-data", "other", "--out", out)
    assert told.endswith("next: pillsnap gate --stage detection\n")


def test_data_without_images_are_refused(
    detector: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("d/labels").mkdir(parents=True)
    Path("d/labels/a.txt").touch()
    Path("data.yaml").write_text("path: d\nval: labels\n")
    save_classifier(Path("c.pt"))
    for stage, place in (("detector", "d"), ("detector", "data.yaml"), ("classifier", "d")):
        model = detector if stage == "detector" else "c.pt"
        told = init(capsys, f"--{stage}", model, f"--{stage}-data", place, code=2)
        assert "there are no images" in told and place in told
    assert not Path("config.yaml").exists()


def test_a_detector_without_data(detector: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = init(capsys, "--detector", detector)
    assert "data.yaml" in to_fill()["combo"] and len(to_fill()) == 1
    assert "to be filled in" in told and "config.yaml:10: combo: path of" in told
    Path("told.yaml").write_text("val: images\n")
    Path("images").mkdir()
    Path("images/a.jpg").touch()
    told = init(capsys, "--detector", detector, "--out", "b.yaml")
    assert "the data are those that training was told: told.yaml" in told
    combo = written("b.yaml").data.val.combo
    assert combo is not None and combo.images == Path("told.yaml").absolute()


def test_a_segmenter_is_refused_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save_detector(make_detector("yolo11n-seg", 2), tmp_path / "seg.pt")
    told = init(capsys, "--detector", path, code=2)
    assert "not a YOLO detection model" in told and "SegmentationModel" in told
    assert not Path("config.yaml").exists()


TOLD = {"model": "test_resnet", "mean": [0.4], "std": None, "interpolation": "bicubic"}
TOLD |= {"crop_pct": None, "img_size": 96, "input_size": None}


def test_a_checkpoint_of_timms_trainer(capsys: pytest.CaptureFixture[str]) -> None:
    path = save_classifier(Path("c.pth.tar"), args=argparse.Namespace(**TOLD), arch="test_resnet")
    draw_folders("b", "a", "d", "c")
    told = init(capsys, "--classifier", path, "--classifier-data", "val")
    config = written()
    found = config.classification
    assert (found.backbone, found.num_classes) == ("test_resnet", 4)
    assert found.checkpoint == path.absolute()
    # What it was not told is timm's own for the backbone.
    assert (found.mean, found.std) == ((0.4, 0.4, 0.4), (0.5, 0.5, 0.5))
    assert (found.interpolation, found.crop_pct, found.crop_mode) == ("bicubic", 0.95, "center")
    assert config.export.input_shape.classification == (1, 3, 96, 96)
    assert json.loads(Path("class_map.json").read_text()) == {"a": 0, "b": 1, "c": 2, "d": 3}
    assert config.data.class_map == Path("class_map.json").absolute()
    assert "FILL" not in told and told.endswith("next: pillsnap gate --stage classification\n")
    assert config.compare.per_class_k == 75  # 300 in all
    assert "expected_top1: null  # " in Path("config.yaml").read_text()


PREPROCESSING = {"mean", "std", "interpolation", "crop_pct", "crop_mode", "classification"}


def test_a_bare_state_dict(capsys: pytest.CaptureFixture[str]) -> None:
    save_classifier(Path("c.pt"))
    told = init(capsys, "--classifier", "c.pt")
    assert "backbone unknown, classes: 4" in told
    assert to_fill().keys() == {"backbone", "single", "class_map", *PREPROCESSING}
    assert "num_classes: 4" in Path("config.yaml").read_text()
    init(capsys, "--classifier", "c.pt", "--backbone", "test_resnet", "--out", "named.yaml")
    left = to_fill("named.yaml")
    assert left.keys() == {"single", "class_map", *PREPROCESSING}
    first = "(timm's for test_resnet), "
    assert left["mean"] == f"[0.5, 0.5, 0.5] {first}[0.485, 0.456, 0.406], [0, 0, 0]"
    assert left["interpolation"].startswith(f"bilinear {first}bicubic, nearest")
    assert left["classification"].startswith(f"[1, 3, 160, 160] {first}")
    for backbone, said in (
        ("test_resnett", "no such backbone"),
        ("test_vit", "no test_vit with a head"),
        ("resnet18", "does not fit the backbone"),
    ):
        options = ("--backbone", backbone, "--out", "x.yaml")
        assert said in init(capsys, "--classifier", "c.pt", *options, code=2)


def test_a_whole_model_in_a_file_is_refused_with_what_to_save(
    capsys: pytest.CaptureFixture[str],
) -> None:
    torch.save(make_classifier("test_resnet", 4), "whole.pt")
    told = init(capsys, "--classifier", "whole.pt", code=2)
    assert "not on the safe list" in told and "save model.state_dict() instead" in told


def test_a_network_of_one_image_size_is_taken_at_any(capsys: pytest.CaptureFixture[str]) -> None:
    model = timm.create_model("test_vit", num_classes=7, img_size=96)
    torch.save(model.state_dict(), "c.pt")
    told = init(capsys, "--classifier", "c.pt", "--backbone", "test_vit")
    assert "test_vit, classes: 7" in told


def test_a_detector_of_weights_alone(capsys: pytest.CaptureFixture[str]) -> None:
    state = make_detector("yolo11n", 3).state_dict()
    state = {name: tensor.contiguous() for name, tensor in state.items()}
    names = json.dumps(dict(enumerate(NAMES)))
    save_file(state, "best.safetensors", {"names": names, "train_args": '{"imgsz": 96}'})
    told = init(capsys, "--detector", "best.safetensors")
    assert to_fill().keys() == {"model", "combo"}
    assert "classes: 3 (0 알약, 1 café: #1, 2 no), 96 x 96 pixels" in told


def test_class_folders_that_do_not_tell_the_order(capsys: pytest.CaptureFixture[str]) -> None:
    save_classifier(Path("c.pt"))
    draw_folders("1", "2", "10", "3")
    options = ("--classifier", "c.pt", "--classifier-data", "val")
    init(capsys, *options)
    assert "timm and torchvision number these class folders differently" in to_fill()["class_map"]
    assert not Path("class_map.json").exists()
    Path("m.json").write_text('{"1": 0, "2": 1, "3": 2, "10": 3}')
    init(capsys, *options, "--class-map", "m.json", "--out", "b.yaml")
    assert "class_map: m.json" in Path("b.yaml").read_text()
    Path("m.json").write_text('{"1": 4}')
    told = init(capsys, *options, "--class-map", "m.json", "--out", "c.yaml", code=2)
    assert "a class index beyond the classifier's head" in told


def test_nothing_is_overwritten(detector: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("config.yaml").write_text("mine")
    told = init(capsys, "--detector", detector, "--github", code=2)
    assert "nothing is overwritten" in told and "config.yaml" in told
    assert Path("config.yaml").read_text() == "mine" and not Path(".github").exists()
    init(capsys, "--github")
    assert commands(".") == ["pillsnap gate -m smoke"]
    assert ".github/workflows/pillsnap.yml" in init(capsys, "--github", code=2)


def test_a_file_in_the_way_of_the_workflow_leaves_nothing_behind(
    detector: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(".github").write_text("in the way")
    told = init(capsys, "--detector", detector, "--github", code=2)
    assert "cannot write" in told and "a file stands where a folder is needed" in told
    assert not Path("config.yaml").exists()
    assert Path(".github").read_text() == "in the way"


def test_the_workflow_runs_what_was_written_and_lies_at_the_root(
    detector: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in (".git", "sub: 1"):
        Path(folder).mkdir()
    monkeypatch.chdir("sub: 1")
    told = init(capsys, "--detector", detector, "--out", "my gate.yaml", "--github")
    assert "wrote ../.github/workflows/pillsnap.yml" in told and "Git LFS" in told
    command = "pillsnap gate --stage detection '--config=my gate.yaml'"
    assert f"next: {command}\n" in told
    assert commands("..") == [f"{command} -m smoke"]
    (step,) = gate_steps("..")
    assert step["working-directory"] == "sub: 1"


def gate_steps(root: str) -> list[dict[str, Any]]:
    """Steps of the workflow that run the gate."""
    text = Path(root, ".github/workflows/pillsnap.yml").read_text()
    steps = yaml.safe_load(text)["jobs"]["gate"]["steps"]
    return [step for step in steps if step.get("name") == "Gate"]


def commands(root: str) -> list[str]:
    return [step["run"] for step in gate_steps(root)]


def test_a_model_must_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([])
    assert "name a model: --detector best.pt" in capsys.readouterr().err
    assert "there is no checkpoint" in init(capsys, "--classifier", "gone.pt", code=2)


def test_a_library_that_is_missing_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    save_classifier(Path("c.pt"))
    monkeypatch.setitem(sys.modules, "timm", None)
    told = init(capsys, "--classifier", "c.pt", code=2)
    assert "timm" in told and "pip install 'pillsnap[torch]'" in told


def test_paths_and_names_that_yaml_would_take_for_something_else(
    detector: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("12: a").mkdir()
    Path("12: a/a.jpg").touch()
    path = Path("12: a/no #1\n.pt")
    path.symlink_to(detector)
    told = init(capsys, "--detector", path, "--detector-data", "12: a")
    config = written()
    assert config.detection.checkpoint == path.absolute()
    assert config.data.val.combo is not None
    assert config.data.val.combo.images == Path("12: a").absolute()
    assert "no #1\\n.pt: yolov8n" in told
