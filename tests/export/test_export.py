"""Exports: the same numbers as torch, the contract's names, and one file for every recipe."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

from pillsnap.config.settings import Config, Data, Nms, Postprocess
from pillsnap.core import files
from pillsnap.core.errors import (
    CheckpointError,
    EngineError,
    ExportError,
    MissingCheckpoint,
    PillsnapError,
)
from pillsnap.core.hashes import sha256_file
from pillsnap.engines.torch.checkpoints import build_classification_model, build_detection_model
from pillsnap.export import (
    Exported,
    describe_onnx,
    export_classification_onnx,
    export_detection_onnx,
    reuse,
)
from pillsnap.export.check import prove
from pillsnap.export.exporters import Traced, exporting
from pillsnap.export.reading import read_hashed
from tests.small_models import Experiment, make_classifier

# Measured on these models: at most 6e-5 px, 9e-8 in score, 2e-7 in logit.
BOX_PX, SCORE, LOGIT = 1e-3, 2e-6, 5e-6


def run(path: Path, images: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    output: np.ndarray = session.run(None, {session.get_inputs()[0].name: images})[0]
    return output


def images(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape, np.float32)


def dims(value: onnx.ValueInfoProto) -> list[int | str]:
    shape = value.type.tensor_type.shape.dim
    return [dim.dim_param or dim.dim_value for dim in shape]


def assert_like_torch(config: Config, exported: Exported, batch: np.ndarray) -> None:
    """Compare a file of either stage with the checkpoint as trained."""
    reuse = run(exported.path, batch)
    assert exported.checkpoint is not None
    detection = exported.metadata["pillsnap.stage"] == "detection"
    build = build_detection_model if detection else build_classification_model
    with torch.inference_mode():
        wanted = build(config, exported.checkpoint).module(torch.from_numpy(batch)).numpy()
    if not detection:
        assert reuse.shape == wanted.shape
        assert np.abs(reuse - wanted).max() < LOGIT
        return
    assert reuse.shape == (*wanted.shape[:2], 6) and reuse.dtype == np.float32
    assert np.abs(reuse[..., :4] - wanted[..., :4]).max() < BOX_PX
    assert np.abs(reuse[..., 4] - wanted[..., 4]).max() < SCORE
    clear = wanted[..., 6] > 2 * SCORE
    assert clear.mean() > 0.9
    assert (reuse[..., 5] == wanted[..., 5])[clear].all()


@pytest.mark.parametrize(
    ("name", "classes", "opset"),
    [("yolo11n", 1, 17), ("yolov8n-p2", 3, 13), ("yolov10n", 80, 18), ("yolo26n", 3, 17)],
)
def test_detector_as_trained(experiment: Experiment, name: str, classes: int, opset: int) -> None:
    config = experiment(name, boxes_of=classes, opset=opset)
    exported = export_detection_onnx(config)
    model = onnx.load(exported.path)
    assert [value.name for value in model.graph.input] == ["images"]
    assert [value.name for value in model.graph.output] == ["detections"]
    assert dims(model.graph.input[0]) == ["batch", 3, "height", "width"]
    assert dims(model.graph.output[0]) == ["batch", "boxes", 6]
    assert exported.opset == opset and exported.dynamic_axes and not exported.reused
    strides = [4, 8, 16, 32] if name.endswith("p2") else [8, 16, 32]
    assert json.loads(exported.metadata["pillsnap.strides"]) == strides
    assert exported.metadata["pillsnap.model"] == name
    for shape in ((1, 3, 64, 96), (3, 3, 96, 64)):
        assert_like_torch(config, exported, images(*shape))


@pytest.mark.parametrize(
    ("backbone", "size", "opset", "channels_last"),
    [
        ("test_resnet", 64, 17, False),
        ("test_resnet", 48, 13, True),
        ("test_vit", 160, 17, False),
        ("test_efficientnet", 33, 18, False),
        ("test_convnext", 64, 20, True),
    ],
)
def test_classifier_as_trained(
    experiment: Experiment, backbone: str, size: int, opset: int, channels_last: bool
) -> None:
    config = experiment(backbone=backbone, size=size, opset=opset, classes=7)
    settings = replace(config.classification, channels_last=channels_last)
    config = replace(config, classification=settings)
    exported = export_classification_onnx(config)
    model = onnx.load(exported.path)
    assert [value.name for value in model.graph.input] == ["input"]
    assert [value.name for value in model.graph.output] == ["logits"]
    assert dims(model.graph.input[0]) == ["batch", 3, size, size]
    assert dims(model.graph.output[0]) == ["batch", 7]
    assert exported.opset == opset
    assert_like_torch(config, exported, images(3, 3, size, size))


def test_static_axes(experiment: Experiment) -> None:
    config = experiment("yolo11n", "test_resnet", dynamic_axes=False)
    shapes = replace(config.export.input_shape, detection=(2, 3, 64, 96))
    config = replace(config, export=replace(config.export, input_shape=shapes))
    detector, classifier = export_detection_onnx(config), export_classification_onnx(config)
    graph = onnx.load(detector.path).graph
    assert dims(graph.input[0]) == [2, 3, 64, 96]
    assert dims(graph.output[0]) == [2, 126, 6]
    assert dims(onnx.load(classifier.path).graph.output[0]) == [1, 5]
    assert not detector.dynamic_axes and not classifier.dynamic_axes
    assert_like_torch(config, detector, images(2, 3, 64, 96))


def test_metadata_and_links(experiment: Experiment, tmp_path: Path) -> None:
    class_map = tmp_path / "map.json"
    class_map.write_text("{}")
    config = replace(experiment("yolo11n", "test_resnet"), data=Data(class_map=class_map))
    # In no repository, unlike the folder that the test runs in.
    config = replace(config, source=tmp_path / "config.yaml")
    for stage, export in (
        ("detection", export_detection_onnx),
        ("classification", export_classification_onnx),
    ):
        exported = export(config)
        metadata = {
            key.removeprefix("pillsnap."): value for key, value in exported.metadata.items()
        }
        assert set(metadata) == {
            *("stage", "version_tag", "exported_at_utc", "git_sha", "checkpoint_sha256"),
            *("git_dirty", "git_diff_sha256"),
            *("class_map_sha256", "preprocess", "nms", "num_classes", "model", "input_shape"),
            *("strides", "opset", "exporter", "dynamic_axes", "params_million", "versions"),
            *("export_key", "graph_sha256", "checkpoint_entry"),
        }
        assert exported.checkpoint is not None
        assert metadata["checkpoint_sha256"] == sha256_file(exported.checkpoint)
        assert metadata["class_map_sha256"] == sha256_file(class_map)
        assert json.loads(metadata["nms"])["max_detections"] == 100
        size = json.loads(metadata["preprocess"])
        assert (size["width"] if stage == "detection" else size["size"]) in (96, 64)
        assert exported.sha256 == sha256_file(exported.path)
        assert exported.path.name == f"{stage}-{metadata['version_tag']}.onnx"
        assert metadata["git_sha"] == "nogit"
        assert exported.exported_at_utc[:10].replace("-", "") == exported.version_tag[:8]
        # Nobody has judged it yet.
        assert not (config.out_dir / f"latest_{stage}.onnx").is_symlink()
        content = exported.path.read_bytes()
        for leak in (str(tmp_path).encode(), str(Path.home()).encode(), b"Ultralytics"):
            assert leak not in content
    names = {path.name for path in config.exp_dir.joinpath("checkpoints").iterdir()}
    assert names == {"detection_best.pt", "classification_best.pt"}
    assert len([path for path in config.out_dir.iterdir() if path.name[0] != "."]) == 2


EXPORT = """
import sys
from pathlib import Path
from pillsnap.config.settings import *
from pillsnap.export import export_classification_onnx, export_detection_onnx

folder, out, *stages = sys.argv[1:]
config = Config(
    paths=Paths(Path(folder)),
    detection=Detection("yolo11n", 1),
    classification=Classification("test_resnet", 5),
    export=Export(
        input_shape=InputShape((1, 3, 64, 96), (1, 3, 64, 64)), out_dir=Path(out)
    ),
)
exports = {"detection": export_detection_onnx, "classification": export_classification_onnx}
for stage in stages:
    print(exports[stage](config, fresh=True, marker=Path(folder, f"{stage}.json")).sha256)
"""


def start(config: Config, out_dir: Path, *stages: str, **environ: str) -> subprocess.Popen[str]:
    """Another process that exports the same experiment."""
    return subprocess.Popen(
        [sys.executable, "-c", EXPORT, config.exp_dir, out_dir, *stages],
        env={**os.environ, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_same_input_and_tag_give_the_same_bytes(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    config = experiment("yolo11n", "test_resnet")
    other = start(config, tmp_path / "out", "detection", "classification", PYTHONHASHSEED="7")
    mine = export_detection_onnx(config), export_classification_onnx(config)
    again = (
        export_detection_onnx(config, fresh=True),
        export_classification_onnx(config, fresh=True),
    )
    assert mine == again
    # Nothing but what the script prints: the exporters are silent.
    wanted = f"{mine[0].sha256}\n{mine[1].sha256}\n", ""
    assert other.communicate(timeout=120) == wanted
    assert mine[0].version_tag.startswith("20231114-221320-")
    assert mine[0].exported_at_utc == "2023-11-14T22:13:20Z"


def test_processes_of_one_run_export_once(experiment: Experiment) -> None:
    config = experiment(backbone="test_resnet")
    other = start(config, config.out_dir, "classification")
    marker = config.exp_dir / "classification.json"
    mine = export_classification_onnx(config, fresh=True, marker=marker)
    assert other.communicate(timeout=120) == (f"{mine.sha256}\n", "")
    assert len(list(config.out_dir.glob("*-*.onnx"))) == 1


def test_an_export_of_the_same_is_reused(experiment: Experiment) -> None:
    config = experiment(backbone="test_resnet")
    first = export_classification_onnx(config)
    again = export_classification_onnx(config)
    assert again == replace(first, reused=True)
    fresh = export_classification_onnx(config, fresh=True)
    assert not fresh.reused
    # Within one second the tag is the same, and then so are the bytes.
    assert fresh.path != first.path or fresh.sha256 == first.sha256
    assert export_classification_onnx(config).path == fresh.path


def test_what_changes_the_file_is_exported_anew(experiment: Experiment) -> None:
    config = experiment(backbone="test_resnet")
    first = export_classification_onnx(config)
    nms = Postprocess(Nms(iou_threshold=0.6))
    shape = replace(config.export.input_shape, classification=(1, 3, 96, 96))
    others = [
        replace(config, export=replace(config.export, opset=18)),
        replace(config, export=replace(config.export, postprocess=nms)),
        replace(config, export=replace(config.export, input_shape=shape)),
        replace(config, classification=replace(config.classification, crop_pct=0.5)),
    ]
    paths = {export_classification_onnx(other).path for other in others}
    assert first.checkpoint is not None
    torch.save(make_classifier().half().state_dict(), first.checkpoint)
    paths.add(export_classification_onnx(config).path)
    assert len(paths | {first.path}) == 6


def test_older_exports_of_other_recipes_are_not_read_whole(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = experiment(backbone="test_resnet")
    first = export_classification_onnx(config)
    other = replace(config, export=replace(config.export, opset=18))
    export_classification_onnx(other)
    read: list[Path] = []

    def note(path: Path) -> tuple[onnx.ModelProto, str]:
        read.append(path)
        return read_hashed(path)

    monkeypatch.setattr(reuse, "read_hashed", note)
    assert export_classification_onnx(config).path == first.path
    assert read == [first.path]


def test_a_damaged_export_is_not_reused(experiment: Experiment) -> None:
    config = experiment(backbone="test_resnet")
    first = export_classification_onnx(config)
    content = first.path.read_bytes()
    for damage in (content[:5000], content[:9000] + bytes(9) + content[9009:], b""):
        first.path.write_bytes(damage)
        again = export_classification_onnx(config, marker=None).path
        assert again != first.path
        again.unlink()


def test_a_name_in_use_is_never_overwritten(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    config = experiment(backbone="test_resnet")
    first = export_classification_onnx(config)
    other = replace(config, export=replace(config.export, opset=18))
    second = export_classification_onnx(other)
    assert second.version_tag.startswith("20231114-221321-")
    assert sha256_file(first.path) == first.sha256
    monkeypatch.delenv("SOURCE_DATE_EPOCH")
    now = export_classification_onnx(replace(config, export=replace(config.export, opset=16)))
    later = export_classification_onnx(replace(config, export=replace(config.export, opset=15)))
    assert now.version_tag < later.version_tag


def test_marker_of_this_run(experiment: Experiment, tmp_path: Path) -> None:
    config, marker = experiment(backbone="test_resnet"), tmp_path / "run" / "export.json"
    first = export_classification_onnx(config, fresh=True, marker=marker)
    assert json.loads(marker.read_bytes())["path"] == str(first.path)
    assert export_classification_onnx(config, fresh=True, marker=marker) == first
    other = replace(config, export=replace(config.export, opset=18))
    second = export_classification_onnx(other, fresh=True, marker=marker)
    assert second.opset == 18
    second.path.unlink()
    third = export_classification_onnx(other, fresh=True, marker=marker)
    assert third.path.exists()
    marker.write_text("broken")
    assert export_classification_onnx(other, marker=marker).reused
    # Who joins the run later hears what the first one heard.
    assert export_classification_onnx(other, fresh=True, marker=marker).reused


def test_threads_of_torch_stay(experiment: Experiment) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 2)
    export_detection_onnx(experiment("yolo11n"))
    assert torch.get_num_threads() == threads + 2
    torch.set_num_threads(threads)


def test_importing_the_package_is_light() -> None:
    code = (
        "import sys, pillsnap.export, pillsnap.engines.torch.checkpoints; "
        "print({'torch', 'onnx', 'timm', 'ultralytics', 'onnxruntime'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


@pytest.mark.parametrize("stage", ["detection", "classification"])
def test_a_missing_checkpoint_is_named_and_the_other_stages_does_not_stand_in(
    experiment: Experiment, stage: str
) -> None:
    # The other stage's does not stand in for it.
    other = {"detection": {"backbone": "test_resnet"}, "classification": {"detector": "yolo11n"}}
    config = experiment(**other[stage])
    export = {"detection": export_detection_onnx, "classification": export_classification_onnx}
    with pytest.raises(MissingCheckpoint, match=rf"no {stage} checkpoint") as caught:
        export[stage](config)
    assert f"{stage}_best.pt" in str(caught.value)
    assert not list(config.out_dir.glob("*.onnx"))
    path = config.exp_dir / "checkpoints" / f"{stage}_best.pt"
    path.mkdir()
    with pytest.raises(CheckpointError, match="the checkpoint is a folder"):
        export[stage](config)


def test_image_sizes_the_detector_cannot_take(experiment: Experiment) -> None:
    config = experiment("yolo11n", image=(64, 90))
    with pytest.raises(CheckpointError, match="cannot take this input shape") as caught:
        export_detection_onnx(config)
    assert "32: [1, 3, 64, 64] or [1, 3, 64, 96]" in str(caught.value)
    with pytest.raises(CheckpointError, match=r"\[1, 3, 32, 64\] or \[1, 3, 32, 64\]"):
        export_detection_onnx(experiment("yolo11n", image=(20, 64)))


@pytest.mark.parametrize(
    ("backbone", "size", "sizes"),
    [
        ("test_vit", 100, "[1, 3, 96, 96] or [1, 3, 112, 112]"),
        ("vit_tiny_patch16_224", 64, "[1, 3, 224, 224]"),
    ],
)
def test_image_sizes_the_classifier_cannot_take(
    experiment: Experiment, backbone: str, size: int, sizes: str
) -> None:
    with pytest.raises(ExportError, match="classifier cannot take this input shape") as caught:
        export_classification_onnx(experiment(backbone=backbone, size=size))
    message = str(caught.value)
    assert "export.input_shape.classification" in message and f"expected: {sizes}\n" in message


def test_operator_that_the_opset_lacks(
    experiment: Experiment, capfd: pytest.CaptureFixture[str]
) -> None:
    config = experiment(backbone="test_vit", size=160, opset=13)
    with pytest.raises(ExportError, match="cannot write the operator aten::scaled_dot") as caught:
        export_classification_onnx(config)
    message = str(caught.value)
    assert "opset 14 has it" in message and "try opset 18: OPSET=18" in message
    assert str(config.exp_dir) in message
    assert not list(config.out_dir.glob("*.onnx"))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("opset", [17, 18])
def test_what_torchscript_cannot_write_is_advised_to_dynamo(opset: int) -> None:
    class Operator(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            values: torch.Tensor = torch.linalg.eigvals(image)
            return values

    class Failure(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("argument 'is_causal' must be bool, not Tensor")

    for module, words in ((Operator(), "operator aten::linalg_eigvals"), (Failure(), "failed")):
        with (
            pytest.raises(ExportError, match=f"torchscript exporter .*{words}") as caught,
            exporting(Path("c.pt"), opset),
        ):
            torch.onnx.export(
                module, (torch.eye(2),), "/dev/null", dynamo=False, opset_version=opset
            )
        assert "set export.exporter: dynamo and export.opset: 18" in str(caught.value)
        assert "OPSET=" not in str(caught.value)  # which fails alike


def test_what_dynamo_cannot_write_is_advised_to_torchscript() -> None:
    with (
        pytest.raises(ExportError, match="dynamo exporter failed") as caught,
        exporting(Path("c.pt"), 18, "dynamo"),
    ):
        raise RuntimeError("data-dependent")
    assert "set export.exporter: torchscript" in str(caught.value)


def test_opset_beyond_the_exporter(experiment: Experiment) -> None:
    with pytest.raises(ExportError, match="cannot write this opset") as caught:
        export_classification_onnx(experiment(backbone="test_resnet", opset=21))
    assert "13 to 20" in str(caught.value)
    with pytest.raises(ExportError, match="dynamo exporter cannot write this opset") as caught:
        export_classification_onnx(experiment(backbone="test_resnet", opset=17, exporter="dynamo"))
    assert "export.opset (or OPSET) to 18" in str(caught.value)


def test_folder_that_cannot_be_written(experiment: Experiment, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    config = experiment(backbone="test_resnet", out_dir=blocked / "out")
    with pytest.raises(PillsnapError, match="cannot write") as caught:
        export_classification_onnx(config)
    assert str(blocked) in str(caught.value) and "write elsewhere" in str(caught.value)


def test_full_disk(experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    monkeypatch.setattr(files, "_sync", full)
    config = experiment(backbone="test_resnet")
    with pytest.raises(PillsnapError, match="No space left on device") as caught:
        export_classification_onnx(config)
    assert str(config.out_dir) in str(caught.value)
    assert [path.name for path in config.out_dir.iterdir()] == [".export-classification.lock"]


def tiny(inputs: list[int | str], outputs: list[int | str], opset: int = 17) -> onnx.ModelProto:
    """A model that only renames its input, whatever it says of its shapes."""
    value = helper.make_tensor_value_info("input", TensorProto.FLOAT, inputs)
    result = helper.make_tensor_value_info("output", TensorProto.FLOAT, outputs)
    node = helper.make_node("Identity", ["input"], ["output"])
    graph = helper.make_graph([node], "g", [value], [result])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def test_another_opset_than_asked_is_not_published(experiment: Experiment) -> None:
    traced = Traced(tiny(["n", 3, 64, 64], ["n", 3, 64, 64], opset=18), 1.0, "tiny")
    with pytest.raises(ExportError, match="another opset than asked") as caught:
        prove(traced, experiment(), "classification", Path("c.pt"))
    assert "got:      18" in str(caught.value) and "expected: 17" in str(caught.value)


def test_axes_that_are_not_free_are_found(experiment: Experiment) -> None:
    config = experiment()
    for model, words in (
        (tiny([1, 3, 64, 64], [1, 3, 64, 64]), r"output \[1, 3, 64, 64\]"),
        (tiny(["n", 3, 64, 64], ["n", 3, 64, 64]), r"output \[1, 3, 64, 64\]"),
    ):
        with pytest.raises(ExportError, match="does not work for an input of") as caught:
            prove(Traced(model, 1.0, "tiny"), config, "classification", Path("c.pt"))
        assert caught.match(words)
    broken = tiny(["n", 3, 64, 64], ["n", 3, 64, 64])
    broken.graph.node[0].op_type = "Nothing"
    with pytest.raises(ExportError, match=r"onnx\.checker refuses"):
        prove(Traced(broken, 1.0, "tiny"), config, "classification", Path("c.pt"))


def test_files_that_others_exported(tmp_path: Path) -> None:
    path = tmp_path / "foreign.onnx"
    onnx.save(tiny(["n", 3, 64, 64], ["n", 5]), path)
    (tmp_path / "link.onnx").symlink_to(path)
    reuse = describe_onnx(tmp_path / "link.onnx", "classification")
    assert (reuse.path, reuse.opset, reuse.dynamic_axes) == (path, 17, True)
    assert (reuse.version_tag, reuse.checkpoint, reuse.metadata) == ("", None, {})
    onnx.save(tiny([2, 3, 64, 64], [2, 84, 6]), path)
    assert not describe_onnx(path, "detection").dynamic_axes
    json.dumps(reuse.summary())


def test_an_export_that_names_no_exporter_is_made_by_the_one_that_is_asked_for(
    tmp_path: Path,
) -> None:
    path, usual = tmp_path / "model.onnx", torch.onnx.export
    with exporting(tmp_path, 17):  # as older versions of ultralytics call it
        torch.onnx.export(torch.nn.ReLU(), (torch.zeros(1, 3),), path, opset_version=17)
    (node,) = onnx.load(path).graph.node
    assert node.name == "/Relu"  # dynamo names it node_relu
    assert torch.onnx.export is usual


def test_models_of_the_other_stage(experiment: Experiment, tmp_path: Path) -> None:
    exported = export_classification_onnx(experiment(backbone="test_resnet"))
    assert describe_onnx(exported.path, "classification") == replace(exported, checkpoint=None)
    with pytest.raises(EngineError, match="is for classification, not for detection") as caught:
        describe_onnx(exported.path, "detection")
    assert "--candidate classification=" in str(caught.value)
    path = tmp_path / "foreign.onnx"
    onnx.save(tiny(["n", 3, 64, 64], ["n", "boxes", 6]), path)
    with pytest.raises(EngineError, match="is for detection, not for classification"):
        describe_onnx(path, "classification")
    onnx.save(tiny(["n", 3, 64, 64], ["n", 84, 80, 80]), path)
    with pytest.raises(EngineError, match="not a model for detection") as caught:
        describe_onnx(path, "detection")
    assert "[?,84,80,80]" in str(caught.value) and "[N,boxes,6]" in str(caught.value)
    native = tiny(["n", 3, 64, 64], ["n", 84, 8400])
    onnx.save(native, path)
    describe_onnx(path, "detection")  # of another exporter
    for entry in (("author", "Ultralytics"), ("task", "segment")):
        native.metadata_props.add(key=entry[0], value=entry[1])
    onnx.save(native, path)
    with pytest.raises(EngineError, match="not a model for detection"):
        describe_onnx(path, "detection")


@pytest.mark.parametrize("damage", ["empty", "truncated", "text", "zip", "folder", "missing"])
def test_damaged_files(experiment: Experiment, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "damaged.onnx"
    if damage == "folder":
        path.mkdir()
    elif damage == "truncated":
        whole = export_classification_onnx(experiment(backbone="test_resnet")).path
        path.write_bytes(whole.read_bytes()[:-20000])
    elif damage != "missing":
        content = {"empty": b"", "text": b"not a model\n" * 9, "zip": b"PK\x03\x04" + bytes(99)}
        path.write_bytes(content[damage])
    with pytest.raises(EngineError) as caught:
        describe_onnx(path, "classification")
    assert "damaged.onnx" in str(caught.value)
    words = {"folder": "Is a directory", "missing": "No such file"}
    assert words.get(damage, "not a whole ONNX model") in str(caught.value)
