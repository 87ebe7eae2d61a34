"""python -m pillsnap.infer: two stages, results in files, INT8, and what users get wrong."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from pillsnap.config.load import load_config
from pillsnap.core.files import point_latest
from pillsnap.export import export_classification_onnx, export_detection_onnx
from pillsnap.infer.__main__ import main
from tests.e2e.demo_project import DemoProject
from tests.e2e.test_bad_models import Touch


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> DemoProject:
    """A project with both exports; yours to read."""
    project = DemoProject(tmp_path_factory.mktemp("exported"))
    config = load_config(project.config, {})
    for export in (export_classification_onnx(config), export_detection_onnx(config)):
        stage = export.path.name.partition("-")[0]
        point_latest(config.out_dir / f"latest_{stage}.onnx", export.path)
    return project


def run(project: DemoProject, *options: str) -> int:
    return main(["--config", str(project.config), "--threads", "1", *options])


def scenes(project: DemoProject) -> str:
    return f"{project.images}/combo/{{images,nowhere}}/000[0-5].{{png,jpg}}"


def test_combo_with_chosen_models_into_files(
    exported: DemoProject, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    drawn = tmp_path / "drawn"
    options = ("--mode", "combo", "--inputs", scenes(exported))
    jsonl, table = tmp_path / "results.jsonl", tmp_path / "results.csv"
    assert run(exported, *options, "--output", str(jsonl), "--save-images", str(drawn)) == 0
    assert run(exported, *options, "--output", str(table), "--batch", "1") == 0
    assert capsys.readouterr().out == ""
    lines = [json.loads(line) for line in jsonl.read_text().splitlines()]
    assert len(lines) == 6
    assert sum(len(line["boxes"]) for line in lines) > 3
    latest = (exported.out_dir / "latest_detection.onnx").resolve().stem
    for line in lines:
        assert line["models"]["detection"]["version"] == latest.removeprefix("detection-")
        with (
            Image.open(line["image"]) as image,
            Image.open(drawn / Path(line["image"]).name) as copy,
        ):
            assert image.size == copy.size
            for box in line["boxes"]:
                x1, y1, x2, y2 = box["xyxy"]
                assert 0 <= x1 < x2 <= image.width
                assert 0 <= y1 < y2 <= image.height
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    boxes = [(line, box) for line in lines for box in line["boxes"] or [None]]
    assert len(rows) == len(boxes)
    for row, (line, box) in zip(rows, boxes, strict=True):
        assert row["image"] == line["image"]
        assert row["code"] == ("" if box is None else box["pill"]["code"])


def test_torch_and_onnx_see_the_same(
    exported: DemoProject, capsys: pytest.CaptureFixture[str]
) -> None:
    found = []
    for engine in ("torch", "onnx"):
        options = ("--engine", engine, "--mode", "combo", "--inputs", scenes(exported))
        assert run(exported, *options) == 0
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        found.append([[box["pill"]["code"] for box in line["boxes"]] for line in lines])
        engines = {made["engine"] for line in lines for made in line["models"].values()}
        assert engines == {engine}
    assert found[0] == found[1]


def test_int8_is_made_by_the_gates_own_conversion(
    exported: DemoProject, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = ("--inputs", str(exported.images / "single" / "*" / "000.png"))
    assert run(exported, "--quantize", "int8", *inputs) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (made,) = exported.out_dir.glob("classification-*-int8-static.onnx")
    assert len(lines) == 24
    assert sum(Path(line["image"]).parent.name == line["code"] for line in lines) >= 20
    assert run(exported, "--quantize", "int8", "--model", str(made), *inputs) == 2
    assert "of lower precision already" in capsys.readouterr().err


def test_no_image_is_lost(
    exported: DemoProject, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    good = next((exported.images / "single").rglob("000.png"))
    for index in range(7):
        shutil.copy(good, tmp_path / f"{index}.jpg")
    (tmp_path / "2.jpg").write_bytes(b"")
    (tmp_path / "4.jpg").write_bytes(good.read_bytes()[:500])
    (tmp_path / "5.jpg").unlink()
    (tmp_path / "5.jpg").symlink_to("nowhere")
    (tmp_path / "6.jpg").unlink()
    os.mkfifo(tmp_path / "ignored.png")
    assert run(exported, "--inputs", f"{tmp_path}/*.jpg", "--batch", "2") == 1
    printed = capsys.readouterr()
    lines = [json.loads(line) for line in printed.out.splitlines()]
    assert [Path(line["image"]).name for line in lines] == [f"{index}.jpg" for index in range(6)]
    assert ["error" in line for line in lines] == [False, False, True, False, True, True]
    assert "3 images could not be read" in printed.err
    for name in ("2.jpg", "4.jpg", "5.jpg"):
        assert f"{tmp_path / name}: this image cannot be read" in printed.err


def no_config(project: DemoProject, folder: Path) -> tuple[str, ...]:
    return ("--config", str(folder / "none.yaml"))


def broken_config(project: DemoProject, folder: Path) -> tuple[str, ...]:
    (folder / "config.yaml").write_text("paths: {exp_dir: [")
    return ("--config", str(folder / "config.yaml"))


def unknown_key(project: DemoProject, folder: Path) -> tuple[str, ...]:
    (folder / "config.yaml").write_text("paths: {exp_dir: x}\npipeline: {margin: 1}")
    return ("--config", str(folder / "config.yaml"))


def bad_margin(project: DemoProject, folder: Path) -> tuple[str, ...]:
    (folder / "config.yaml").write_text("paths: {exp_dir: x}\npipeline: {crop_margin: -0.1}")
    return ("--config", str(folder / "config.yaml"))


def broken_env(project: DemoProject, folder: Path) -> tuple[str, ...]:
    (folder / "config.yaml").write_text("paths: {exp_dir: x}")
    (folder / ".env").write_text("API_KEY='secret")
    return ("--config", str(folder / "config.yaml"))


def wrong_env(project: DemoProject, folder: Path) -> tuple[str, ...]:
    (folder / "config.yaml").write_text("paths: {exp_dir: x}")
    (folder / ".env").write_text("MODEL_PATH=nowhere.onnx")
    return ("--config", str(folder / "config.yaml"))


def no_models(project: DemoProject, folder: Path) -> tuple[str, ...]:
    (folder / "config.yaml").write_text("paths: {exp_dir: x}")
    return ("--config", str(folder / "config.yaml"))


def other_suffix(project: DemoProject, folder: Path) -> tuple[str, ...]:
    return ("--output", str(folder / "results.txt"))


def output_nowhere(project: DemoProject, folder: Path) -> tuple[str, ...]:
    (folder / "file").touch()
    return ("--output", str(folder / "file" / "results.csv"))


def drawn_nowhere(project: DemoProject, folder: Path) -> tuple[str, ...]:
    (folder / "file").touch()
    return ("--save-images", str(folder / "file"))


def detector_alone(project: DemoProject, folder: Path) -> tuple[str, ...]:
    return ("--detector", str(project.out_dir / "latest_detection.onnx"))


def stages_swapped(project: DemoProject, folder: Path) -> tuple[str, ...]:
    detector = str(project.out_dir / "latest_detection.onnx")
    return ("--mode", "combo", "--model", detector, "--detector", detector)


def malicious(project: DemoProject, folder: Path) -> tuple[str, ...]:
    torch.save({"state_dict": {}, "model": Touch(folder / "harm")}, folder / "model.pt")
    return ("--model", str(folder / "model.pt"))


def other_shape(project: DemoProject, folder: Path) -> tuple[str, ...]:
    torch.save({"state_dict": {"weight": torch.zeros(3)}}, folder / "model.pt")
    return ("--model", str(folder / "model.pt"))


def model_is_a_folder(project: DemoProject, folder: Path) -> tuple[str, ...]:
    return ("--model", str(folder))


def quantised_checkpoint(project: DemoProject, folder: Path) -> tuple[str, ...]:
    model = project.exp_dir / "checkpoints" / "classification_best.pt"
    return ("--quantize", "int8", "--model", str(model))


def a_provider_that_is_not_here(project: DemoProject, folder: Path) -> tuple[str, ...]:
    return ("--engine", "tensorrt")


MISTAKES: list[tuple[Callable[[DemoProject, Path], tuple[str, ...]], str]] = [
    (no_config, "no such config file"),
    (broken_config, "this is not YAML"),
    (unknown_key, "unknown key 'margin'"),
    (bad_margin, "from 0.0 to 2.0"),
    (broken_env, "quotes are broken"),
    (wrong_env, "MODEL_PATH names no model"),
    (no_models, "there is no classification model"),
    (other_suffix, ".jsonl or .csv"),
    (output_nowhere, "file"),
    (drawn_nowhere, "file"),
    (detector_alone, "only mode combo takes a detector"),
    (stages_swapped, "this model is for detection, not for classification"),
    (malicious, "is refused"),
    (other_shape, "checkpoint"),
    (model_is_a_folder, "Is a directory"),
    (quantised_checkpoint, "only ONNX files are quantised"),
    (a_provider_that_is_not_here, "tensorrt"),
]


@pytest.mark.parametrize(
    ("mistake", "message"), MISTAKES, ids=lambda value: getattr(value, "__name__", "")
)
def test_mistakes_are_messages(
    exported: DemoProject,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    mistake: Callable[[DemoProject, Path], tuple[str, ...]],
    message: str,
) -> None:
    image = str(next((exported.images / "single").rglob("000.png")))
    options = mistake(exported, tmp_path)
    assert run(exported, "--inputs", image, *options) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert errors.startswith("error: ")
    assert "Traceback" not in errors
    assert "secret" not in errors
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    "options",
    [
        ("--batch", "0"),
        ("--mode", "both"),
        ("--engine", "tensorrt", "--provider", "cpu"),
        ("--quantize", "int4"),
    ],
)
def test_wrong_options(
    exported: DemoProject, capsys: pytest.CaptureFixture[str], options: tuple[str, ...]
) -> None:
    with pytest.raises(SystemExit) as caught:
        run(exported, "--inputs", "x", *options)
    assert caught.value.code == 2
    assert "error: " in capsys.readouterr().err
