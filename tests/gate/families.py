"""Models of several families: trained for minutes, or random and as settled as after a training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pillsnap.compare.loading import Prepared, load_batches
from pillsnap.compare.tasks import read_samples
from pillsnap.config.cells import CLASSIFICATION, DETECTION
from pillsnap.config.settings import Classification, Config, Nms, Postprocess
from pillsnap.data.maps import read_class_map
from pillsnap.engines import Batch
from pillsnap.engines.torch.checkpoints import stage_transform
from pillsnap.engines.torch.raw_boxes import raw_boxes
from pillsnap.engines.torch.yolo import quiet_ultralytics
from pillsnap.pipeline.transforms import LetterboxTransform
from pillsnap.proof.healthy import settle_batchnorm
from tests.gate.training import train

CLASSES = 3

# Scores of a head before the sigmoid, by class.
_CENTRES, _SPREAD = (-4.0, -5.0, -6.0), 1.5


def make_family(
    config: Config, folder: Path, name: str, side: int, *, trained: bool = False
) -> Config:
    """A detector of three classes, saved there; the configuration for it, whose threshold no score
    comes near: else half precision would move some over it. The photos that it is trained on are
    those that a Bench holds candidates to."""
    quiet_ultralytics()
    import torch
    from ultralytics.nn import tasks

    torch.manual_seed(0)
    kinds = {"rtdetr": tasks.RTDETRDetectionModel, "world": tasks.WorldModel}
    build = next((each for part, each in kinds.items() if part in name), tasks.DetectionModel)
    model: Any = build(f"{name}.yaml", nc=CLASSES, verbose=False)
    if "world" in name:  # as an encoder of texts gives them
        model.txt_feats = torch.nn.functional.normalize(model.txt_feats, dim=-1)
    prepared = _photos(config, side, 4 if trained else 8)
    photos = prepared.array
    if trained:
        train(model, prepared, CLASSES)
    else:
        settle_batchnorm(model, np.split(photos, 2))
        if "rtdetr" in name:
            _settle_queries(model, photos)
        elif "world" not in name:
            _settle_heads(model, photos)
    model.names = {index: f"pill{index}" for index in range(CLASSES)}
    checkpoint = folder / name / "checkpoints" / "detection_best.pt"
    checkpoint.parent.mkdir(parents=True)
    torch.save({"model": model, "train_args": {}}, checkpoint)
    with torch.inference_mode():
        boxes = raw_boxes(model)(torch.from_numpy(photos)).numpy()
    scores = np.sort(boxes[..., 4], axis=None)
    # Few boxes, lest half precision move one over it.
    few = scores[-len(scores) // 64 : -len(scores) // 256]
    conf = _widest_gap(scores[(scores > 0.3) & (scores < 0.95)] if trained else few)
    shapes = replace(config.export.input_shape, detection=(1, 3, side, side))
    nms = Postprocess(Nms(conf_threshold=conf, iou_threshold=0.7, max_detections=300))
    return replace(
        config,
        paths=replace(config.paths, exp_dir=checkpoint.parents[1]),
        detection=replace(config.detection, model=name, num_classes=CLASSES, checkpoint=None),
        export=replace(config.export, input_shape=shapes, postprocess=nms),
    )


def make_yolo_classifier(config: Config, folder: Path) -> Config:
    """A classifier of ultralytics for the demo's classes, saved there; the configuration for it."""
    quiet_ultralytics()
    import torch
    from ultralytics.data.augment import classify_transforms
    from ultralytics.nn.tasks import ClassificationModel

    torch.manual_seed(0)
    classes = config.classification.num_classes
    model: Any = ClassificationModel("yolo11n-cls.yaml", nc=classes, verbose=False)
    moved = replace(
        config,
        paths=replace(config.paths, exp_dir=folder),
        classification=Classification("yolo11n-cls", classes),
    )
    samples = read_samples(config, CLASSIFICATION)[:16]
    batches = load_batches(samples, stage_transform(moved, CLASSIFICATION), 8)
    settle_batchnorm(model, (batch.array for batch in batches))
    torch.nn.init.normal_(model.model[-1].linear.weight, 0.0, 0.2)
    assert config.data.class_map is not None
    numbers = read_class_map(config.data.class_map, classes)
    model.names = {number: name for name, number in numbers.items()}
    model.transforms = classify_transforms(config.export.input_shape.classification[2])
    checkpoint = folder / "checkpoints" / "classification_best.pt"
    checkpoint.parent.mkdir(parents=True)
    torch.save({"model": model, "train_args": {}}, checkpoint)
    return moved


def _photos(config: Config, side: int, count: int) -> Prepared:
    samples = [sample for sample in read_samples(config, DETECTION) if sample.boxes != ()][:count]
    (batch,) = load_batches(samples, LetterboxTransform(side, side), count)
    return batch


def _settle_heads(model: Any, photos: Batch) -> None:
    """Boxes of some four cells that do not turn inside out, a few of them with a high score; those
    of a one-to-one head are larger."""
    import torch

    head = model.model[-1]
    one_to_one = [*(getattr(head, "one2one_cv2", None) or ())]
    scores = [*head.cv3, *(getattr(head, "one2one_cv3", None) or ())]
    boxes, cells = [*head.cv2, *one_to_one], torch.eye(head.reg_max)[2 % head.reg_max]
    answers = _answers(model, photos, [layers[-1] for layers in (*scores, *boxes)])
    for layers, found in zip((*scores, *boxes), answers, strict=True):
        channels = found.movedim(1, -1)
        if layers in scores:
            _settle(layers[-1], channels, _SPREAD, torch.tensor(_CENTRES))
        elif head.reg_max == 1:
            centre = torch.full((4,), 2.3 if layers in one_to_one else 2.0)
            _settle(layers[-1], channels, 0.1, centre)
        else:  # of a distribution over distances
            _settle(layers[-1], channels, 0.5, cells.mul(6.0).repeat(4))


def _settle_queries(model: Any, photos: Batch) -> None:
    """Boxes that move away from where their queries stand, as those of a fresh head do not; scores
    that tell queries apart, and few high ones."""
    import torch

    head = model.model[-1]
    for layers in (head.enc_bbox_head, *head.dec_bbox_head):
        torch.nn.init.normal_(layers.layers[-1].weight, 0.0, 0.01)
    with torch.no_grad():  # of a quarter of the image, as objects are, and not of a twentieth
        head.dec_bbox_head[-1].layers[-1].bias[2:] = 1.5
    for layer in (head.enc_score_head, head.dec_score_head[-1]):  # which choose, and are told
        (found,) = _answers(model, photos, [layer])
        _settle(layer, found, _SPREAD, torch.tensor(_CENTRES))


def _answers(model: Any, photos: Batch, layers: Sequence[Any]) -> list[Any]:
    """What layers of a model answer to photos."""
    import torch

    answers: dict[Any, Any] = {}
    hooks = [
        layer.register_forward_hook(lambda layer, _, found: answers.update({layer: found}))
        for layer in layers
    ]
    with torch.inference_mode():
        model(torch.from_numpy(photos))
    for hook in hooks:
        hook.remove()
    return [answers[layer] for layer in layers]


def _settle(layer: Any, answers: Any, spread: float, centre: Any) -> None:
    """Have a layer that answers [..., channels] do so with that deviation around those values."""
    import torch

    by = spread / answers.std()
    with torch.no_grad():
        mean = answers.flatten(0, -2).mean(0)
        layer.weight.mul_(by)
        layer.bias.copy_(centre - (mean - layer.bias) * by)


def _widest_gap(values: Batch) -> float:
    """Of sorted values, the middle between the two that are farthest apart."""
    place = int(np.argmax(np.diff(values)))
    return round(float(values[place : place + 2].mean()), 4)
