"""python -m pillsnap.infer on the demo."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pillsnap.config.load import load_config
from pillsnap.export import export_classification_onnx, export_detection_onnx
from pillsnap.infer.__main__ import main
from tests.e2e.demo_project import DemoProject


def run(
    project: DemoProject, capsys: pytest.CaptureFixture[str], *options: str
) -> tuple[int, list[dict[str, Any]], str]:
    code = main(["--config", str(project.config), "--threads", "2", *options])
    captured = capsys.readouterr()
    return code, [json.loads(line) for line in captured.out.splitlines()], captured.err


@pytest.mark.parametrize("engine", ["onnx", "torch"])
def test_names_single_photos(
    project: DemoProject, capsys: pytest.CaptureFixture[str], engine: str
) -> None:
    config = load_config(project.config, {})
    model = project.exp_dir / "checkpoints" / "classification_best.pt"
    if engine == "onnx":
        model = export_classification_onnx(config).path
    # As a shell gives a glob without quotes, and what two of them name once.
    single = project.images / "single"
    inputs = [str(single / "*" / "000.png"), *map(str, sorted(single.glob("K-0001*/000.png")))]
    code, lines, _ = run(
        project, capsys, "--engine", engine, "--model", str(model), "--inputs", *inputs
    )
    assert code == 0
    assert len(lines) == 24
    edi_codes = json.loads(Path(project.settings["data"]["edi_map"]).read_text())
    right = [Path(line["image"]).parent.name == line["code"] for line in lines]
    assert sum(right) >= 21
    assert all(line["edi_code"] == edi_codes[line["code"]] for line in lines)
    assert [line["image"] for line in lines] == sorted(line["image"] for line in lines)


def test_an_export_of_another_checkpoint_is_told(
    project: DemoProject, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    model = export_classification_onnx(load_config(project.config, {})).path
    image = str(project.images / "single/K-000123/000.png")
    for told in (False, True):
        code, _, _ = run(project, capsys, "--model", str(model), "--inputs", image)
        assert code == 0
        trained = project.exp_dir / "checkpoints/classification_best.pt"
        assert (f"{model} is of another checkpoint than {trained}" in caplog.text) is told
        trained.write_bytes(trained.read_bytes() + b" ")


def test_finds_boxes_with_either_engine(
    project: DemoProject, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    onnx_model = str(export_detection_onnx(load_config(project.config, {})).path)
    torch_model = str(project.exp_dir / "checkpoints" / "detection_best.pt")
    inputs = str(project.images / "combo" / "images" / "000*.png")
    found = []
    for engine, model in (("onnx", onnx_model), ("torch", torch_model)):
        options = ("--engine", engine, "--model", model, "--inputs", inputs, "--batch", "3")
        code, lines, errors = run(project, capsys, *options)
        assert code == 0, errors
        # Not what mode single is for, which is said.
        assert {line["mode"] for line in lines} == {"boxes"}
        assert f"{model} is a detector, so mode single, which classifies, becomes" in caplog.text
        found.append([len(line["boxes"]) for line in lines])
    assert found[0] == found[1]
    assert len(found[0]) == 10
    assert sum(found[0]) > 5


def test_unreadable_images_are_counted_and_none_is_lost(
    project: DemoProject, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    good = (project.images / "single").rglob("000.png")
    for index, path in enumerate(sorted(good)[:3]):
        (photos / f"{index}.png").write_bytes(path.read_bytes())
    (photos / "1.png").unlink()
    (photos / "1\x1b[2J\n.png").write_bytes(b"no image")
    model = str(project.exp_dir / "checkpoints" / "classification_best.pt")
    options = ("--engine", "torch", "--model", model, "--inputs", str(photos / "*"))
    code, lines, errors = run(project, capsys, *options)
    assert code == 1
    assert [Path(line["image"]).name for line in lines] == ["0.png", "1\x1b[2J\n.png", "2.png"]
    assert ["error" in line for line in lines] == [False, True, False]
    assert "1 images could not be read" in errors
    assert r"1\x1b[2J\n.png: this image cannot be read" in errors
    assert "\x1b" not in errors


def test_mistakes_are_messages(
    project: DemoProject, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    model = str(project.exp_dir / "checkpoints" / "classification_best.pt")
    image = str(next((project.images / "single").rglob("000.png")))
    text = tmp_path / "model.onnx"
    text.write_text("no model")
    with pytest.raises(SystemExit, match="2"):  # what it cannot run is no choice
        run(project, capsys, "--engine", "tvm", "--inputs", image)
    assert "choose from" in capsys.readouterr().err
    for options, message in (
        (("--model", str(text), "--inputs", image), "not a whole ONNX model"),
        (("--model", "nowhere.onnx", "--inputs", image), "cannot read the model"),
        (("--engine", "torch", "--model", "nowhere.pt", "--inputs", image), "no checkpoint"),
        (("--engine", "torch", "--model", model, "--inputs", "nowhere/*"), "no input"),
    ):
        code, lines, errors = run(project, capsys, *options)
        assert (code, lines) == (2, [])
        assert message in errors


def test_other_settings_are_followed_by_file_and_model(
    project: DemoProject, capsys: pytest.CaptureFixture[str]
) -> None:
    config = load_config(project.config, {})
    export = replace(config.export, dynamic_axes=False)
    model = export_classification_onnx(replace(config, export=export)).path
    image = str(next((project.images / "single").rglob("000.png")))
    code, lines, _ = run(project, capsys, "--model", str(model), "--inputs", image)
    assert (code, len(lines)) == (0, 1)
