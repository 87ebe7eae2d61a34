"""Which model is loaded: environment, then exports, then the checkpoint."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from pillsnap.config.settings import Config, Paths
from pillsnap.core.errors import ConfigError, MissingCheckpoint
from pillsnap.infer.choice import choose_model, engine_of

STAGES = ("classification", "detection")
TAGS = ("20250101-000000-aaaaaaa", "20250102-000000-nogit", "20240601-120000-bbbbbbb")


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """Checkpoints, but no export yet."""
    for stage in STAGES:
        touch(tmp_path / "exp" / "checkpoints" / f"{stage}_best.pt")
    return Config(paths=Paths(tmp_path / "exp"), source=tmp_path / "config.yaml")


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"model")
    return path


def add_exports(folder: Path, latest: str | None = None) -> None:
    for stage in STAGES:
        for tag in TAGS:
            touch(folder / f"{stage}-{tag}.onnx")
        touch(folder / f"{stage}-20260101-000000-aaaaaaa-int8-static.onnx")
        if latest is not None:
            (folder / f"latest_{stage}.onnx").symlink_to(f"{stage}-{latest}.onnx")


def chosen(config: Config, stage: str, **environ: str) -> tuple[str, str]:
    choice = choose_model(config, stage, environ)
    assert str(config.exp_dir) not in choice.reason
    return choice.path.name, engine_of(choice.path, config)


@pytest.mark.parametrize("stage", STAGES)
def test_the_order(config: Config, stage: str, tmp_path: Path) -> None:
    assert chosen(config, stage) == (f"{stage}_best.pt", "torch")
    own = replace(getattr(config, stage), checkpoint=touch(tmp_path / "runs/model_best.pth.tar"))
    assert chosen(replace(config, **{stage: own}), stage) == ("model_best.pth.tar", "torch")
    add_exports(config.out_dir)
    assert chosen(config, stage) == (f"{stage}-{TAGS[1]}.onnx", "onnx")
    link = config.out_dir / f"latest_{stage}.onnx"
    link.symlink_to(f"{stage}-{TAGS[2]}.onnx")
    assert chosen(config, stage) == (f"{stage}-{TAGS[2]}.onnx", "onnx")
    link.unlink()
    link.symlink_to("gone.onnx")
    assert chosen(config, stage) == (f"{stage}-{TAGS[1]}.onnx", "onnx")
    add_exports(tmp_path / "other", latest=TAGS[0])
    folder = str(tmp_path / "other")
    assert chosen(config, stage, MODEL_PATH=folder) == (f"{stage}-{TAGS[0]}.onnx", "onnx")
    own = touch(tmp_path / "own.onnx")
    name = f"{stage.upper()}_MODEL_PATH"
    assert chosen(config, stage, MODEL_PATH=folder, **{name: str(own)}) == ("own.onnx", "onnx")
    assert chosen(config, stage, **{name: "own.onnx"}) == ("own.onnx", "onnx")
    assert chosen(config, stage, **{name: ""}) == (f"{stage}-{TAGS[1]}.onnx", "onnx")


@pytest.mark.parametrize("stage", STAGES)
def test_engine_torch_takes_a_checkpoint_whatever_exports_there_are(
    config: Config, stage: str, tmp_path: Path
) -> None:
    def for_torch(**environ: str) -> tuple[str, str]:
        choice = choose_model(config, stage, environ, "torch")
        return choice.path.name, choice.reason

    name = f"{stage.upper()}_MODEL_PATH"
    best = (f"{stage}_best.pt", "the checkpoint, for engine torch")
    add_exports(config.out_dir, latest=TAGS[2])
    assert for_torch() == best
    onnx, own = touch(tmp_path / "own.onnx"), touch(tmp_path / "own.pt")
    assert for_torch(**{name: str(onnx), "MODEL_PATH": str(config.out_dir)}) == best
    assert for_torch(**{name: str(own)}) == ("own.pt", f"{name} is set")
    with pytest.raises(ConfigError, match="names no model"):
        for_torch(**{name: "gone.pt"})
    (config.exp_dir / "checkpoints" / f"{stage}_best.pt").unlink()
    with pytest.raises(MissingCheckpoint):
        for_torch()


def test_an_export_that_no_link_leads_to_is_not_taken_in_silence(
    config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    add_exports(config.out_dir, latest=TAGS[2])
    assert choose_model(config, "detection", {}).passed
    assert "passed" not in caplog.text
    (config.out_dir / "latest_detection.onnx").unlink()
    choice = choose_model(config, "detection", {})
    assert (choice.path.name, choice.passed) == (f"detection-{TAGS[1]}.onnx", False)
    assert "detection: no link leads to an export that the gate has passed" in caplog.text
    assert choice.reason.startswith("newest detection export of export.out_dir; no latest_")


def test_a_link_that_became_a_text_leads_where_it_led(
    config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    add_exports(config.out_dir)
    latest = config.out_dir / "latest_detection.onnx"
    latest.write_text(f"detection-{TAGS[2]}.onnx\n")
    choice = choose_model(config, "detection", {})
    assert (choice.path.name, choice.passed) == (f"detection-{TAGS[2]}.onnx", True)
    assert "a symbolic link that became a text" in caplog.text
    latest.write_text("detection-20230101-000000-nogit.onnx")  # which is not there
    choice = choose_model(config, "detection", {})
    assert (choice.path.name, choice.passed) == (f"detection-{TAGS[1]}.onnx", False)
    for elsewhere in (f"../export/detection-{TAGS[2]}.onnx", f"classification-{TAGS[2]}.onnx"):
        latest.write_text(elsewhere)
        assert choose_model(config, "detection", {}).path == latest  # refused when it is opened


def test_a_copy_in_place_of_the_link_has_passed_too(config: Config) -> None:
    """As on a file system without links."""
    add_exports(config.out_dir)
    touch(config.out_dir / "latest_detection.onnx")
    choice = choose_model(config, "detection", {})
    assert (choice.path.name, choice.passed) == ("latest_detection.onnx", True)
    assert "of export.out_dir, a copy of the newest detection export that passed" in choice.reason


def test_a_file_in_model_path_is_the_classifier(config: Config, tmp_path: Path) -> None:
    touch(tmp_path / "own.pt")
    assert chosen(config, "classification", MODEL_PATH="own.pt") == ("own.pt", "torch")
    assert chosen(config, "detection", MODEL_PATH="own.pt") == ("detection_best.pt", "torch")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("CLASSIFICATION_MODEL_PATH", "gone.onnx", "no such file"),
        ("CLASSIFICATION_MODEL_PATH", ".", "a folder"),
        ("CLASSIFICATION_MODEL_PATH", "a\0b", "null"),
        ("DETECTION_MODEL_PATH", "gone.onnx", "no such file"),
        ("DETECTION_MODEL_PATH", "config.yaml/x", "not a directory"),
        ("CLASSIFICATION_MODEL_PATH", "fifo", "not a regular file"),
        ("MODEL_PATH", "fifo", "not a regular file"),
        ("MODEL_PATH", "gone", "no such file"),
        ("MODEL_PATH", "empty", "latest_"),
        ("MODEL_PATH", "a\0b", "null"),
    ],
)
def test_a_path_that_is_set_and_wrong_is_an_error(
    config: Config, tmp_path: Path, name: str, value: str, message: str
) -> None:
    os.mkfifo(tmp_path / "fifo")
    add_exports(config.out_dir)
    touch(tmp_path / "config.yaml")
    (tmp_path / "empty").mkdir()
    stage = "detection" if name.startswith("DETECTION") else "classification"
    with pytest.raises(ConfigError, match=f"(?i){name} names no model") as caught:
        choose_model(config, stage, {name: value})
    assert message in str(caught.value).lower()


def test_nothing_anywhere(tmp_path: Path) -> None:
    config = Config(paths=Paths(tmp_path), source=tmp_path / "config.yaml")
    with pytest.raises(MissingCheckpoint, match="no detection model") as caught:
        choose_model(config, "detection", {})
    assert "DETECTION_MODEL_PATH" in str(caught.value)


@pytest.mark.parametrize("text", ["~nobody-of-that-name/x.onnx", "x" * 5000, "a\0b"])
def test_a_variable_that_no_path_can_be_is_named(config: Config, text: str) -> None:
    with pytest.raises(ConfigError, match="MODEL_PATH names no model"):
        choose_model(config, "classification", {"MODEL_PATH": text})
