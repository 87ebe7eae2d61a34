"""Checkpoints: what is loaded from them, and which are refused with what words."""

from __future__ import annotations

import argparse
import copy
import io
import os
import pickle
import sys
import types
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pillsnap.config.settings import Classification, Config, Detection, Export, InputShape, Paths
from pillsnap.core.errors import CheckpointError, MissingCheckpoint
from pillsnap.engines.torch import network
from pillsnap.engines.torch.checkpoints import (
    build_classification_model,
    build_detection_model,
    count_params,
    find_best_checkpoint,
    letterbox_transform,
    list_checkpoints,
    model_settings,
    resolve_classify_transform,
)
from pillsnap.engines.torch.network import class_names, require_known_layers
from pillsnap.engines.torch.raw_boxes import raw_boxes
from pillsnap.engines.torch.yolo import quiet_ultralytics
from tests.small_models import (
    DetectorFile,
    Experiment,
    make_classifier,
    make_detector,
    save_detector,
)

CONFIG = Config(
    paths=Paths(Path("exp")),
    detection=Detection("yolo11n", 1),
    classification=Classification("test_resnet", 5),
    export=Export(input_shape=InputShape((1, 3, 64, 96), (1, 3, 64, 64))),
)
BUILD = {"detection": build_detection_model, "classification": build_classification_model}


def detection_config(name: str, classes: int) -> Config:
    return replace(CONFIG, detection=Detection(name, classes))


@pytest.mark.parametrize(
    ("name", "classes", "strides"),
    [
        ("yolo11n", 1, (8, 16, 32)),
        ("yolov8n-p2", 1, (4, 8, 16, 32)),
        ("yolov10n", 3, (8, 16, 32)),
        ("yolo26n", 80, (8, 16, 32)),
    ],
)
def test_detector_gives_the_trained_models_own_boxes(
    detector_file: DetectorFile, name: str, classes: int, strides: tuple[int, ...]
) -> None:
    from ultralytics.utils.ops import xywh2xyxy

    loaded = build_detection_model(detection_config(name, classes), detector_file(name, classes))
    assert loaded.strides == strides
    assert loaded.class_names == tuple(f"pill{index}" for index in range(classes))
    assert all(tensor.dtype == torch.float32 for tensor in loaded.module.parameters())
    trained = make_detector(name, classes).half().float()
    head = trained.model[-1]
    # Sizes and batches vary, and come back: nothing may be cached.
    for shape in ((1, 64, 64), (2, 64, 96), (1, 96, 64), (2, 64, 96)):
        images = torch.rand(shape[0], 3, *shape[1:])
        with torch.inference_mode():
            rows = loaded.module(images)
            wanted, predictions = trained(images)
            if head.end2end:  # as of YOLOv10 before ultralytics 8.4
                wanted = head._inference(predictions["one2many"])
            wanted = wanted.transpose(1, 2)
        boxes = sum((shape[1] // stride) * (shape[2] // stride) for stride in strides)
        assert rows.shape == (shape[0], boxes, 7) and rows.dtype == torch.float32
        if head.end2end:  # which decodes to corners
            assert torch.allclose(rows[..., :4], wanted[..., :4], atol=1e-3)
        else:
            assert torch.equal(rows[..., :4], xywh2xyxy(wanted[..., :4]))
        scores = wanted[..., 4:].sort(dim=-1, descending=True).values
        assert torch.equal(rows[..., 4], scores[..., 0])
        assert torch.equal(rows[..., 5], wanted[..., 4:].argmax(-1).float())
        lead = (
            scores[..., 0] - scores[..., 1]
            if classes > 1
            else torch.full_like(rows[..., 6], np.inf)
        )
        assert torch.equal(rows[..., 6], lead)


def test_detector_prefers_the_averaged_weights(tmp_path: Path) -> None:
    ema = make_detector("yolo11n", 1)
    plain = copy.deepcopy(ema)
    torch.nn.init.zeros_(plain.model[0].conv.weight)
    path = save_detector(ema, tmp_path / "a.pt", model=plain)
    loaded = build_detection_model(CONFIG, path)
    assert loaded.module.state_dict()["model.model.0.conv.weight"].abs().sum() > 0
    path = save_detector(ema, tmp_path / "b.pt", model=plain, ema=None)
    loaded = build_detection_model(CONFIG, path)
    assert loaded.module.state_dict()["model.model.0.conv.weight"].abs().sum() == 0


def test_a_detector_of_ultralytics_8_0(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its arguments are of a class in ultralytics.yolo, where its layers were as well."""
    place = "ultralytics.yolo.utils"
    module: Any = types.ModuleType(place)
    name = "IterableSimpleNamespace"
    module.__dict__[name] = type(name, (types.SimpleNamespace,), {"__module__": place})
    monkeypatch.setitem(sys.modules, "ultralytics.yolo", types.ModuleType("ultralytics.yolo"))
    monkeypatch.setitem(sys.modules, place, module)
    model = make_detector("yolo11n", 1)
    model.args = module.IterableSimpleNamespace(imgsz=64)
    assert build_detection_model(CONFIG, save_detector(model, tmp_path / "a.pt")).strides


def test_checkpoints_are_only_read(detector_file: DetectorFile, tmp_path: Path) -> None:
    folder = tmp_path / "it's a folder"
    folder.mkdir()
    for stage in BUILD:
        path = folder / f"{stage} best"  # neither blanks, quotes nor suffix matter
        if stage == "detection":
            path.write_bytes(detector_file().read_bytes())
        else:
            torch.save(make_classifier().state_dict(), path)
        path.chmod(0o444)
        before = path.read_bytes(), path.stat().st_mtime_ns
        BUILD[stage](CONFIG, path)
        assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    assert len(list(folder.iterdir())) == 2


def test_detector_of_another_class_count(detector_file: DetectorFile) -> None:
    with pytest.raises(CheckpointError, match="detector of 3 classes, config says 1") as caught:
        build_detection_model(CONFIG, detector_file("yolov10n", 3))
    assert "set detection.num_classes: 3" in str(caught.value)


def test_detector_of_another_architecture(detector_file: DetectorFile) -> None:
    with pytest.raises(CheckpointError, match="is a yolo11n, config says yolo11m") as caught:
        build_detection_model(detection_config("yolo11m", 1), detector_file())
    assert "set detection.model: yolo11n" in str(caught.value)
    for name in ("yolov11n", "YOLO11n", "yolo11n.yaml", "yolo11n.pt"):
        build_detection_model(detection_config(name, 1), detector_file())


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["a", "b"], ("a", "b")),
        ({"1": "b", 0: "a"}, ("a", "b")),
        ({1.0: "b", "00": "a"}, ("a", "b")),
        ({0: 7, 1: True}, ("7", "True")),
        ({}, ()),
        (None, ()),
        ({1: "a", 2: "b"}, None),  # the second would be called as the first is
        ({0: "a", "0": "b"}, None),
        ({0: "a", "pill": "b"}, None),
        ({0: "a", None: "b"}, None),
        ({0: "a", float("inf"): "b"}, None),
        ({0: ["a"]}, None),
        ("ab", None),
    ],
)
def test_class_names_are_taken_in_every_form_that_ultralytics_takes(
    names: Any, found: tuple[str, ...] | None
) -> None:
    model = types.SimpleNamespace(names=names)
    if found is not None:
        assert class_names(model, Path("a.pt")) == found
        return
    with pytest.raises(CheckpointError, match="its class names"):
        class_names(model, Path("a.pt"))


@pytest.mark.parametrize("keys", [range(12), map(str, range(12))])
def test_class_names_are_in_the_order_of_their_indices(keys: Any, tmp_path: Path) -> None:
    model = make_detector("yolo11n", 12)
    model.names = {key: f"pill{key}" for key in reversed(list(keys))}
    loaded = build_detection_model(
        detection_config("yolo11n", 12), save_detector(model, tmp_path / "a.pt")
    )
    assert loaded.class_names == tuple(f"pill{index}" for index in range(12))


def test_model_of_another_task(detector_file: DetectorFile) -> None:
    with pytest.raises(CheckpointError, match="not a YOLO detection model") as caught:
        build_detection_model(detection_config("yolo11n-seg", 1), detector_file("yolo11n-seg", 1))
    assert "last layer Segment" in str(caught.value)


def test_detector_that_lost_its_one_to_many_head(tmp_path: Path) -> None:
    model = make_detector("yolo26n", 1)
    model.end2end = True
    model.model[-1].fuse()
    path = save_detector(model, tmp_path / "fused.pt")
    with pytest.raises(CheckpointError, match="one-to-many head, which feeds the NMS, is gone"):
        build_detection_model(detection_config("yolo26n", 1), path)


def read_network(path: Path) -> Any:
    """The ultralytics model in a checkpoint, as it was saved."""
    quiet_ultralytics()
    content: Any = torch.load(path, weights_only=False)
    return content["ema"].float()


def test_detector_of_a_version_that_goes_by_whether_there_is_a_one_to_one_head(
    detector_file: DetectorFile,
) -> None:
    model = read_network(detector_file("yolo26n", 1))
    images = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        usual = raw_boxes(model)(images)
        head = model.model[-1]
        read_only = property(lambda self: hasattr(self, "one2one_cv2"))
        head.__class__ = type("Detect", (type(head),), {"end2end": read_only})
        assert head.end2end
        assert torch.equal(raw_boxes(model)(images), usual)


def test_layers_that_the_installed_ultralytics_would_run_as_something_else(
    detector_file: DetectorFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class SPPF(torch.nn.Module):
        """As before ultralytics 8.4."""

        def __init__(self, c1: int, c2: int, k: int = 5) -> None:
            super().__init__()

    later = read_network(detector_file("yolo26n", 1))  # which has one with a shortcut
    earlier = torch.nn.Sequential(torch.nn.ReLU(), SPPF(1, 1))
    require_known_layers(later, tmp_path)
    require_known_layers(earlier, tmp_path)
    for name, harmless, other in (("n", 3, 2), ("add", False, True)):
        setattr(earlier[1], name, harmless)
        require_known_layers(earlier, tmp_path)
        setattr(earlier[1], name, other)
        with pytest.raises(CheckpointError, match="of a later ultralytics") as caught:
            require_known_layers(earlier, tmp_path)
        assert "1: an SPPF as ultralytics 8." in str(caught.value)
        delattr(earlier[1], name)
    # What is installed knows of shortcuts; as if it did not, this detector is refused.
    monkeypatch.setattr(network, "signature", lambda _: types.SimpleNamespace(parameters={}))
    with pytest.raises(CheckpointError, match="of a later ultralytics"):
        build_detection_model(detection_config("yolo26n", 1), detector_file("yolo26n", 1))


def test_detector_without_a_model(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save(make_classifier().state_dict(), path)
    with pytest.raises(CheckpointError, match="holds no Ultralytics model") as caught:
        build_detection_model(CONFIG, path)
    assert "is this the classifier's checkpoint?" in str(caught.value)


def test_quantisation_aware_detector(tmp_path: Path) -> None:
    path = save_detector(make_detector("yolo11n", 1), tmp_path / "qat.pt", modelopt={"state": 1})
    with pytest.raises(CheckpointError, match="quantisation-aware"):
        build_detection_model(CONFIG, path)


def test_weights_that_are_not_finite(tmp_path: Path) -> None:
    detector = make_detector("yolo11n", 1)
    with torch.no_grad():
        detector.model[0].conv.weight.view(-1)[:2] = torch.inf
    classifier = make_classifier()
    with torch.no_grad():
        classifier.fc.bias[0] = torch.nan
    torch.save(classifier.state_dict(), tmp_path / "c.pt")
    paths = {
        "detection": save_detector(detector, tmp_path / "d.pt"),
        "classification": tmp_path / "c.pt",
    }
    words = {
        "detection": "model.0.conv.weight: 2 of 432 values",
        "classification": "fc.bias: 1 of 5 values",
    }
    for stage, build in BUILD.items():
        with pytest.raises(CheckpointError, match="weights that are not finite") as caught:
            build(CONFIG, paths[stage])
        assert words[stage] in str(caught.value)


class Malicious:
    """Unpickling it would create a file."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("stage", BUILD)
@pytest.mark.parametrize("kind", ["zip", "legacy", "pickle", "inside"])
def test_malicious_checkpoint_runs_nothing(stage: str, kind: str, tmp_path: Path) -> None:
    trace, path = tmp_path / "trace", tmp_path / "evil.pt"
    content: Any = {"model": Malicious(trace)}
    if kind == "pickle":
        path.write_bytes(pickle.dumps(content, 2))
    elif kind == "inside":
        save_detector(make_detector("yolo11n", 1), path, train_args={"evil": Malicious(trace)})
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind == "zip")
    with pytest.raises(CheckpointError) as caught:
        BUILD[stage](CONFIG, path)
    assert not trace.exists()
    message = str(caught.value)
    assert str(path) in message
    if (stage, kind) == ("classification", "inside"):  # told apart without unpickling
        assert "an Ultralytics detector, not a classifier" in message
    elif kind != "pickle":  # which torch refuses for its form, before it looks inside
        assert "refused: loading it would call code" in message and "posix.mkdir" in message


def write_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "a")


def write_truncated(path: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"a": torch.zeros(1000)}, buffer)
    path.write_bytes(buffer.getvalue()[:2000])


def write_safetensors(path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(3)}, path)


def write_onnx(path: Path) -> None:
    model = torch.nn.Linear(2, 2)
    torch.onnx.export(model, (torch.zeros(1, 2),), path, dynamo=False)


def write_torchscript(path: Path) -> None:
    jit: Any = torch.jit
    jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)).save(path)


def write_cut_legacy(path: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"a": torch.zeros(1000)}, buffer, _use_new_zipfile_serialization=False)
    path.write_bytes(buffer.getvalue()[:200])


FOREIGN: list[tuple[Callable[[Path], Any], str]] = [
    (lambda path: path.write_bytes(b""), "an empty file"),
    (write_truncated, "the file is truncated"),
    (write_cut_legacy, "damaged"),
    (lambda path: path.write_text("not a model\n" * 99), "a text file"),
    (lambda path: path.write_bytes(bytes(range(1, 200))), "a file of unknown kind"),
    (write_zip, "a zip archive of something else"),
    (write_safetensors, "does not fit"),
    (write_onnx, "an ONNX model"),
    (write_torchscript, "a TorchScript archive"),
    (lambda path: path.mkdir(), "is a folder"),
    (lambda path: os.mkfifo(path), "no regular file"),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("stage", BUILD)
@pytest.mark.parametrize(("write", "words"), FOREIGN, ids=[words for _, words in FOREIGN])
def test_foreign_file(stage: str, write: Callable[[Path], Any], words: str, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    write(path)
    with pytest.raises(CheckpointError) as caught:
        BUILD[stage](CONFIG, path)
    assert words in str(caught.value) and str(path) in str(caught.value)


@pytest.mark.parametrize("stage", BUILD)
def test_missing_file(stage: str, tmp_path: Path) -> None:
    with pytest.raises(MissingCheckpoint, match="there is no checkpoint") as caught:
        BUILD[stage](CONFIG, tmp_path / "gone.pt")
    assert "gone.pt" in str(caught.value)


def test_whole_pickled_classifier(tmp_path: Path) -> None:
    path = tmp_path / "module.pt"
    torch.save(make_classifier(), path)
    with pytest.raises(CheckpointError, match="refused: loading it would call code") as caught:
        build_classification_model(CONFIG, path)
    assert "timm." in str(caught.value) and "state_dict()" in str(caught.value)


def wrappings() -> dict[str, Callable[[dict[str, Any]], Any]]:
    zeros = {key: torch.zeros_like(value) for key, value in make_classifier().state_dict().items()}

    def prefixed(prefix: str) -> Callable[[dict[str, Any]], Any]:
        return lambda state: {prefix + key: value for key, value in state.items()}

    return {
        "bare": lambda state: state,
        "half": lambda state: {
            key: value.half() if value.is_floating_point() else value
            for key, value in state.items()
        },
        "state_dict": lambda state: {"epoch": 3, "state_dict": state},
        "model_state_dict": lambda state: {"model_state_dict": state, "optimizer": {"lr": 0.1}},
        "model": lambda state: {"model": state},
        "ema_first": lambda state: {"model": zeros, "ema": state},
        "no_ema": lambda state: {"model": state, "ema": None},
        "nested_ema": lambda state: {"ema": {"state_dict": state, "decay": 0.99}, "model": zeros},
        "module": prefixed("module."),
        "compiled": prefixed("_orig_mod."),
        "both": prefixed("module._orig_mod."),
        "both_turned": lambda state: {"model": prefixed("_orig_mod.module.")(state)},
        "averaged": lambda state: {
            "ema": {"n_averaged": torch.tensor(9), **prefixed("module.")(state)}
        },
        "timm_train": lambda state: {
            "state_dict": state,
            "args": argparse.Namespace(lr=0.1),
            "metric": np.float64(0.9),
        },
    }


@pytest.mark.parametrize("name", list(wrappings()))
def test_classifier_from_what_trainers_save(name: str, tmp_path: Path) -> None:
    trained, path = make_classifier(), tmp_path / "c.pt"
    torch.save(wrappings()[name](trained.state_dict()), path)
    module = build_classification_model(CONFIG, path).module
    wanted = trained.half().float() if name == "half" else trained
    images = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(module(images), wanted(images))
    assert not module.training
    assert all(tensor.dtype == torch.float32 for tensor in module.parameters())


def test_head_of_another_class_count(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    torch.save({"model": make_classifier(classes=4020).state_dict()}, path)
    config = replace(CONFIG, classification=Classification("test_resnet", 5000))
    with pytest.raises(CheckpointError, match="head of 4020 classes, config says 5000") as caught:
        build_classification_model(config, path)
    message = str(caught.value)
    assert "2 mismatched: fc.weight [4020," in message
    assert "set classification.num_classes: 4020" in message


def test_checkpoint_of_another_backbone(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    torch.save(make_classifier("test_efficientnet").state_dict(), path)
    with pytest.raises(CheckpointError, match="does not fit the backbone") as caught:
        build_classification_model(CONFIG, path)
    message = str(caught.value)
    assert "missing: " in message and "unexpected: " in message and " more" in message
    assert "test_resnet with 5 classes" in message


def test_one_tensor_too_few_and_one_too_many(tmp_path: Path) -> None:
    state = make_classifier().state_dict()
    state["extra"] = state.pop("fc.bias")
    torch.save(state, tmp_path / "c.pt")
    with pytest.raises(CheckpointError) as caught:
        build_classification_model(CONFIG, tmp_path / "c.pt")
    assert "1 missing: fc.bias; 1 unexpected: extra" in str(caught.value)


def test_checkpoint_without_state(tmp_path: Path) -> None:
    torch.save({"epoch": 1, "weights": [1, 2]}, tmp_path / "c.pt")
    with pytest.raises(CheckpointError, match="holds no state dict") as caught:
        build_classification_model(CONFIG, tmp_path / "c.pt")
    assert "a dict with keys epoch, weights" in str(caught.value)


@pytest.mark.parametrize("name", ["efficientnetv2_t", "hf-hub:timm/resnet18"])
def test_unknown_backbone(name: str, tmp_path: Path) -> None:
    torch.save(make_classifier().state_dict(), tmp_path / "c.pt")
    config = replace(CONFIG, classification=Classification(name, 5))
    with pytest.raises(CheckpointError, match="timm has no such backbone") as caught:
        build_classification_model(config, tmp_path / "c.pt")
    assert name in str(caught.value) and "classification.backbone" in str(caught.value)
    if not name.startswith("hf"):
        assert "efficientnetv2_s" in str(caught.value)


def test_channels_last(tmp_path: Path) -> None:
    torch.save(make_classifier().state_dict(), tmp_path / "c.pt")
    for wanted in (False, True):
        settings = Classification("test_resnet", 5, channels_last=wanted)
        module = build_classification_model(
            replace(CONFIG, classification=settings), tmp_path / "c.pt"
        ).module
        weight = module.state_dict()["layer1.0.conv2.weight"]
        assert weight.is_contiguous(memory_format=torch.channels_last) is wanted


def test_parameters_are_counted_in_millions() -> None:
    assert count_params(make_classifier()) == pytest.approx(0.370167, abs=0.02)
    assert count_params(torch.nn.Linear(3, 2)) == 8e-6


def test_checkpoints_of_an_experiment(tmp_path: Path) -> None:
    assert list_checkpoints(tmp_path / "checkpoints") == []
    with pytest.raises(MissingCheckpoint, match="no detection checkpoint") as caught:
        find_best_checkpoint(Config(paths=Paths(tmp_path)), "detection")
    assert str(tmp_path / "checkpoints" / "detection_best.pt") in str(caught.value)
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    for name in ("last.pt", "classification_best.pt", "notes.txt"):
        (folder / name).touch()
    assert [path.name for path in list_checkpoints(tmp_path / "checkpoints")] == [
        "classification_best.pt",
        "last.pt",
    ]
    assert (
        find_best_checkpoint(Config(paths=Paths(tmp_path)), "classification")
        == folder / "classification_best.pt"
    )
    with pytest.raises(MissingCheckpoint, match=r"beside it: classification_best\.pt, last\.pt"):
        find_best_checkpoint(Config(paths=Paths(tmp_path)), "detection")


def test_config_may_name_a_checkpoint_whatever_its_name(tmp_path: Path) -> None:
    own, folder = tmp_path / "runs" / "best.pth.tar", tmp_path / "checkpoints"
    for path in (own, folder / "detection_best.pt", folder / "detection_best.safetensors"):
        path.parent.mkdir(exist_ok=True)
        path.touch()
    config = Config(paths=Paths(tmp_path), detection=Detection(checkpoint=own))
    assert find_best_checkpoint(config, "detection") == own
    # The same file under another name gives the same export and the same answers.
    assert model_settings(config, "detection") == model_settings(
        Config(paths=Paths(tmp_path)), "detection"
    )
    own.rename(own.with_name("last.pt"))
    with pytest.raises(MissingCheckpoint) as caught:
        find_best_checkpoint(config, "detection")
    text = str(caught.value)
    assert f"{own}\n" in text and "beside it: last.pt" in text
    assert "mend detection.checkpoint in config.yaml" in text


def test_transforms_come_from_config_then_from_timm(experiment: Experiment) -> None:
    own = resolve_classify_transform(CONFIG)
    assert (own.size, own.mean, own.interpolation, own.crop_pct) == (
        64,
        (0.5, 0.5, 0.5),
        "bilinear",
        0.95,
    )
    settings = Classification("test_resnet", 5, mean=(0.1, 0.2, 0.3), crop_pct=1.0)
    mixed = resolve_classify_transform(replace(CONFIG, classification=settings))
    assert (mixed.mean, mixed.std, mixed.crop_pct) == ((0.1, 0.2, 0.3), (0.5, 0.5, 0.5), 1.0)
    channels = (0.5, 0.5, 0.5)
    given = Classification("not in timm", 5, channels, channels, "bicubic", 0.9)
    assert resolve_classify_transform(replace(CONFIG, classification=given)).crop_pct == 0.9
    assert (letterbox_transform(CONFIG).height, letterbox_transform(CONFIG).width) == (64, 96)
