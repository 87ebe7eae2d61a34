"""Measures the demo's checkpoints on the validation images that the package draws."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pillsnap.demo.drugs import DRUGS
from pillsnap.demo.labels import CLASS_NAME
from pillsnap.demo.render import render_scene
from pillsnap.demo.training.classifier import ARCHITECTURE, eval_transform, normalise

if TYPE_CHECKING:
    import torch

SCENE_PX = 640
CROP_MIN_PX = 48
"""Below this longest side a crop's imprint cannot be read."""
_BATCH = 48
_STRIDES = (8, 16, 32)


def measure_classifier(checkpoint: Path, data: Path) -> dict[str, float]:
    """Top-1 on single photos and on the true crops of the scenes; how near the calls were."""
    photos = [
        (Image.open(path).convert("RGB"), index)
        for index, drug in enumerate(DRUGS)
        for path in sorted((data / "val" / "single" / drug.code).glob("*.png"))
    ]
    crops = []
    for seed in range(_scenes(data)):
        scene, boxes = render_scene(seed, split="val")
        for drug_index, *box in boxes:
            x1, y1, x2, y2 = (round(side) for side in box)
            if max(x2 - x1, y2 - y1) >= CROP_MIN_PX:
                crops.append((scene.crop((x1, y1, x2, y2)), drug_index))
    top1, confidence, margin = _classify(checkpoint, photos)
    crop_top1, _, _ = _classify(checkpoint, crops)
    return {
        "singles": len(photos),
        "single_top1": round(float(top1.mean()), 4),
        "single_confidence_p05": round(float(np.quantile(confidence, 0.05)), 4),
        "single_confidence_median": round(float(np.median(confidence)), 4),
        "single_margin_under_0.2": int((margin < 0.2).sum()),
        "crops": len(crops),
        "crop_top1": round(float(crop_top1.mean()), 4),
    }


def measure_detector(checkpoint: Path, data: Path, work: Path) -> dict[str, float]:
    """COCO-style mAP at 640 px, and how many final boxes each of the three heads gave."""
    from ultralytics import YOLO

    combo = data / "val" / "combo"
    listing = work / "val.yaml"
    listing.write_text(
        f"path: {combo.resolve()}\ntrain: images\nval: images\nnames:\n  0: {CLASS_NAME}\n",
        encoding="utf-8",
    )
    result = YOLO(str(checkpoint)).val(
        data=str(listing),
        imgsz=SCENE_PX,
        batch=8,
        device="cpu",
        workers=0,
        plots=False,
        verbose=False,
        project=str(work),
        name="val",
    )
    # ultralytics leaves an index of the labels behind, in a folder that is not ours.
    (combo / "labels.cache").unlink(missing_ok=True)
    figures = {
        "scenes": _scenes(data),
        "map50": round(float(result.box.map50), 4),
        "map50_95": round(float(result.box.map), 4),
    }
    counts = _boxes_by_stride(checkpoint, sorted((combo / "images").glob("*.png")))
    return figures | {f"boxes_stride_{stride}": count for stride, count in counts.items()}


def _classify(
    checkpoint: Path, samples: Iterable[tuple[Image.Image, int]]
) -> tuple[NDArray[np.bool_], NDArray[np.float32], NDArray[np.float32]]:
    """Per sample: right or not, probability of the first, its lead over the second; [N] each."""
    import timm
    import torch

    model = timm.create_model(ARCHITECTURE, pretrained=False, num_classes=len(DRUGS))
    model.load_state_dict(torch.load(checkpoint, weights_only=True)["state_dict"])
    model.eval()
    transform = eval_transform()
    images = torch.stack([transform(image) for image, _ in samples])
    labels = torch.tensor([label for _, label in samples])
    with torch.inference_mode():
        logits = torch.cat([model(normalise(part)) for part in torch.split(images, _BATCH)])
    best = logits.softmax(1).topk(2, dim=1)
    right = best.indices[:, 0] == labels
    lead = best.values[:, 0] - best.values[:, 1]
    return right.numpy(), best.values[:, 0].numpy(), lead.numpy()


def _boxes_by_stride(checkpoint: Path, paths: list[Path]) -> dict[int, int]:
    """Final boxes (confidence 0.25, NMS 0.5) by the stride of the head that they come from."""
    import torch
    from ultralytics import YOLO
    from ultralytics.data.augment import LetterBox
    from ultralytics.utils.nms import non_max_suppression

    model = YOLO(str(checkpoint)).model.float().eval()
    letterbox = LetterBox((SCENE_PX, SCENE_PX), auto=False)
    # Anchors lie stride after stride, each a square grid.
    ends = np.cumsum([(SCENE_PX // stride) ** 2 for stride in _STRIDES])
    counts = dict.fromkeys(_STRIDES, 0)
    for path in paths:
        pixels = letterbox(image=np.asarray(Image.open(path).convert("RGB")))
        batch: torch.Tensor = torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None] / 255
        with torch.inference_mode():
            raw = model(batch)[0]
        _, kept = non_max_suppression(raw, conf_thres=0.25, iou_thres=0.5, return_idxs=True)
        for head in np.searchsorted(ends, kept[0].flatten().numpy(), side="right"):
            counts[_STRIDES[int(head)]] += 1
    return counts


def _scenes(data: Path) -> int:
    return len(list((data / "val" / "combo" / "images").glob("*.png")))
