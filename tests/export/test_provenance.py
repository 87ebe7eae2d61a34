"""A candidate's metadata are held against the configuration, the checkpoint and the class map."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from pillsnap.config.settings import Config, Nms, Postprocess
from pillsnap.core.errors import CheckpointError, WrongCandidate
from pillsnap.engines.torch.checkpoints import stage_transform
from pillsnap.export import describe_onnx, export_classification_onnx, export_detection_onnx
from pillsnap.export.onnxfile import PREFIX, Exported
from pillsnap.export.provenance import has_claims, require_fit
from tests.small_models import Experiment


@pytest.fixture
def classifier(experiment: Experiment, tmp_path: Path) -> tuple[Config, Exported]:
    """A configuration, and an export of it, described as a candidate is."""
    class_map = tmp_path / "class_map.json"
    class_map.write_text(json.dumps({f"K-{index}": index for index in range(5)}))
    config = experiment(backbone="test_resnet")
    config = replace(config, data=replace(config.data, class_map=class_map))
    return config, describe_onnx(export_classification_onnx(config).path, "classification")


def refusal(exported: Exported, config: Config, stage: str = "classification") -> str:
    with pytest.raises(WrongCandidate) as caught:
        require_fit(exported, config, stage)
    return str(caught.value)


def test_what_it_was_made_for_is_accepted(classifier: tuple[Config, Exported]) -> None:
    config, exported = classifier
    assert has_claims(exported)
    require_fit(exported, config, "classification")
    # A classifier does not know the NMS.
    other = replace(config.export, postprocess=Postprocess(Nms(iou_threshold=0.7)))
    require_fit(exported, replace(config, export=other), "classification")


def test_other_preprocessing_is_named_by_its_keys(classifier: tuple[Config, Exported]) -> None:
    config, exported = classifier
    settings = replace(config.classification, mean=(0.1, 0.2, 0.3), crop_pct=0.5)
    text = refusal(exported, replace(config, classification=settings))
    assert "preprocess.mean" in text
    assert "preprocess.crop_pct 0.5" in text
    assert "preprocess.std" not in text
    assert str(exported.path) in text


def test_another_crop_mode_is_named_and_a_file_that_says_none_has_center(
    classifier: tuple[Config, Exported],
) -> None:
    config, exported = classifier
    assert "crop_mode" not in exported.metadata[PREFIX + "preprocess"]
    squash = replace(config, classification=replace(config.classification, crop_mode="squash"))
    assert "preprocess.crop_mode squash" in refusal(exported, squash)
    stretched = describe_onnx(export_classification_onnx(squash).path, "classification")
    require_fit(stretched, squash, "classification")
    assert "preprocess.crop_mode" in refusal(stretched, config)


def test_another_class_map_is_named(classifier: tuple[Config, Exported]) -> None:
    config, exported = classifier
    assert config.data.class_map is not None
    config.data.class_map.write_text(json.dumps({f"K-{4 - index}": index for index in range(5)}))
    assert "class_map_sha256" in refusal(exported, config)


def test_another_checkpoint_is_named(classifier: tuple[Config, Exported]) -> None:
    config, exported = classifier
    checkpoint = config.exp_dir / "checkpoints" / "classification_best.pt"
    other = checkpoint.with_suffix(".other")
    shutil.copy(checkpoint, other)
    with other.open("ab") as file:
        file.write(b"\0")
    other.replace(checkpoint)
    assert "checkpoint_sha256" in refusal(exported, config)


def test_a_fixed_batch_size_is_named(classifier: tuple[Config, Exported], tmp_path: Path) -> None:
    config, free = classifier
    fixed = replace(config, export=replace(config.export, dynamic_axes=False))
    exported = describe_onnx(export_classification_onnx(fixed).path, "classification")
    require_fit(exported, fixed, "classification")
    require_fit(free, fixed, "classification")  # a free one serves as well
    assert "batches of one size only" in refusal(exported, config)
    model = onnx.load(exported.path)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "foreign.onnx")
    foreign = describe_onnx(tmp_path / "foreign.onnx", "classification")
    require_fit(foreign, config, "classification")  # batches are filled up to its size


def test_a_detector_is_held_to_its_nms_and_not_to_the_class_map(experiment: Experiment) -> None:
    config = experiment(detector="yolo11n")
    exported = describe_onnx(export_detection_onnx(config).path, "detection")
    require_fit(exported, config, "detection")
    nms = Postprocess(Nms(conf_threshold=0.25, iou_threshold=0.7))
    other = replace(config, export=replace(config.export, postprocess=nms))
    text = refusal(exported, other, "detection")
    assert "nms.conf_threshold 0.25" in text
    assert "nms.iou_threshold 0.7" in text
    assert "max_detections" not in text


def test_a_file_made_elsewhere_claims_nothing(
    classifier: tuple[Config, Exported], tmp_path: Path
) -> None:
    config, exported = classifier
    model = onnx.load(exported.path)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "foreign.onnx")
    foreign = describe_onnx(tmp_path / "foreign.onnx", "classification")
    assert not has_claims(foreign)
    require_fit(foreign, config, "classification")


def test_the_bundle_s_preprocessing_stands_in_for_timm_s(
    classifier: tuple[Config, Exported], monkeypatch: pytest.MonkeyPatch
) -> None:
    config, exported = classifier
    assert config.classification.mean is None
    transform = stage_transform(config, "classification")
    monkeypatch.setitem(sys.modules, "timm", None)
    sha256 = exported.metadata["pillsnap.checkpoint_sha256"]
    require_fit(exported, config, "classification", sha256, transform)
    with pytest.raises(WrongCandidate, match=r"preprocess\.size"):
        require_fit(exported, config, "classification", sha256, replace(transform, size=32))
    # Nothing else knows what timm would say.
    with pytest.raises(CheckpointError, match="timm is asked for"):
        require_fit(exported, config, "classification", sha256)
