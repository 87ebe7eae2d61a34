"""Found boxes matched to labelled ones once, by pycocotools; ranking.py makes mAP of them."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pillsnap.compare.figures.ranking import Evaluation, Ranking


def evaluate(
    truth: Sequence[NDArray[Any]], found: Sequence[NDArray[Any]], *, max_detections: int
) -> Evaluation | None:
    """Match found boxes to labelled ones as pycocotools' COCOeval does (boxes of all areas).

    A class that is found but never labelled has no average precision and does not count, as in
    COCO. Boxes of equal confidence rank by image and then by row. COCOeval.summarize is not used:
    its figures hold for 100 detections an image only.

    Args:
        truth: per image [G, 5], x1, y1, x2, y2, class, in pixels of the image.
        found: per image, in the same order, [K, 6], x1, y1, x2, y2, confidence, class, finite.
        max_detections: boxes of a class that count in one image, by falling confidence.

    Returns:
        What mAP is made of, or None where no image has a labelled box.
    """
    truth = [np.insert(boxes, 4, 1.0, axis=1) for boxes in truth]
    if not any(len(boxes) for boxes in truth):
        return None

    from pycocotools.cocoeval import COCOeval

    # COCOeval leaves out found boxes of any other class.
    classes = sorted({int(row[-1]) for boxes in truth for row in boxes})
    # pycocotools reports its progress with print.
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCOeval(_dataset(truth, classes), _dataset(found, classes), "bbox")
        coco.params.maxDets = [max_detections]
        # COCO's own "all" ignores boxes of more than 1e10 square pixels.
        coco.params.areaRng = [[0.0, float("inf")]]
        coco.params.areaRngLbl = ["all"]
        coco.evaluate()
    # By class and then by image; None where an image has no box of the class.
    count = len(truth)
    by_class = (coco.evalImgs[k * count : (k + 1) * count] for k in range(len(classes)))
    return Evaluation(count, tuple(_ranking(images) for images in by_class))


def _ranking(images: Sequence[dict[str, Any] | None]) -> Ranking:
    """One class of COCOeval.evalImgs, sorted as COCOeval.accumulate sorts it.

    Its ids start at 1 and 0 means unmatched. No box of it is to be ignored: the one range of areas
    holds all boxes, and none is of a crowd.
    """
    results = [(index, image) for index, image in enumerate(images) if image is not None]
    scores = np.concatenate([image["dtScores"] for _, image in results]).astype(np.float64)
    order = np.argsort(-scores, kind="stable")

    def image_of_each(ids: str) -> NDArray[np.int32]:
        counts = [len(image[ids]) for _, image in results]
        return np.repeat(np.array([index for index, _ in results], np.int32), counts)

    matched = np.concatenate([image["dtMatches"] for _, image in results], axis=1) > 0
    return Ranking(
        scores[order],
        image_of_each("dtIds")[order],
        matched[:, order],
        image_of_each("gtIds"),
    )


def _dataset(images: Sequence[NDArray[Any]], classes: Sequence[int]) -> Any:
    """A pycocotools.coco.COCO with the boxes of each image, [K, 6]."""
    from pycocotools.coco import COCO

    annotations: list[dict[str, Any]] = []
    for image_id, boxes in enumerate(images):
        for row in boxes.tolist():
            # An inverted box has no area; a negative one would be ignored, not counted as wrong.
            width, height = max(row[2] - row[0], 0.0), max(row[3] - row[1], 0.0)
            annotations.append(
                {
                    "id": len(annotations) + 1,  # COCOeval takes 0 for "not matched"
                    "image_id": image_id,
                    "category_id": int(row[-1]),
                    "bbox": [row[0], row[1], width, height],
                    "area": width * height,
                    "iscrowd": 0,
                    "score": row[4],
                }
            )
    dataset = COCO()
    dataset.dataset = {
        "images": [{"id": image_id} for image_id in range(len(images))],
        "categories": [{"id": class_id} for class_id in classes],
        "annotations": annotations,
    }
    dataset.createIndex()
    return dataset
