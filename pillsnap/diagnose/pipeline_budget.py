"""Both stages together: where a difference in what photos' pills are called comes from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from pillsnap.compare.matching import box_distance, match_boxes
from pillsnap.diagnose.budget import Budget, Stage, share_difference
from pillsnap.diagnose.stages import network_stages
from pillsnap.diagnose.subject import Side, Subject
from pillsnap.engines import Batch
from pillsnap.pipeline.crops import crop_box
from pillsnap.pipeline.preprocess import Pixels, letterbox_tensor
from pillsnap.pipeline.transforms import LetterboxTransform
from pillsnap.pipeline.twostage import describe_boxes

if TYPE_CHECKING:
    import onnx

Crop = Callable[[Pixels, Sequence[float]], Pixels]
"""Cuts x1, y1, x2, y2 out of an image."""

# A broken detector may find a hundred pills in a photo; so many of the surest are named.
NAMED = 8

_Kept = Sequence[Batch]  # boxes [k,6] by image
_Named = tuple[_Kept, Sequence[Any]]  # and the crops, or logits, of all images in a row
_Results = Sequence[tuple[Batch, Sequence[Any]]]  # boxes and probabilities of each image


def pipeline_budget(
    detector: Subject,
    classifier: Subject,
    candidate: onnx.ModelProto | None = None,
    healthy: onnx.ModelProto | None = None,
    crop: Crop | None = None,
) -> Budget:
    """The final difference of detection -> crop -> classification on the detector's photos,
    attributed to preprocess, network, decode, nms, crop, classifier (with its own preprocessing)
    and softmax.

    A result's difference is that of its boxes, and for each pair of them the L1 distance of their
    probabilities; the mean over photos is shared out. PillsnapError where a side does not run.

    Args:
        candidate, healthy: the detector's, as of `error_budget`.
        crop: how the candidate's side cuts, if not as the reference's.
    """

    def right_crop(image: Pixels, box: Sequence[float]) -> Pixels:
        return crop_box(image, box, detector.config.pipeline.crop_margin)

    stages = [
        *network_stages(detector, candidate, healthy),
        Stage("nms", detector.reference.finish, detector.candidate.finish),
        _stage("crop", lambda how: _cutting(detector, how), right_crop, crop or right_crop),
        _stage("classifier", _classifying, classifier.reference, classifier.candidate),
        _stage("softmax", _finishing, classifier.reference.finish, classifier.candidate.finish),
    ]
    budget = share_difference(stages, detector.images, _distance)
    return replace(budget, unit="boxes and probabilities an image")


def _stage(name: str, make: Callable[[Any], Callable[[Any], Any]], ours: Any, theirs: Any) -> Stage:
    """A stage that is the same on both sides where what it is made of is."""
    reference = make(ours)
    return Stage(name, reference, reference if ours is theirs else make(theirs))


def _cutting(detector: Subject, crop: Crop) -> Callable[[_Kept], _Named]:
    transform = detector.transform
    assert isinstance(transform, LetterboxTransform)
    geometries = [letterbox_tensor(image, transform)[1] for image in detector.images]

    def cut(kept: _Kept) -> _Named:
        crops = [
            crop(image, box["xyxy"])
            for image, rows, geometry in zip(detector.images, kept, geometries, strict=True)
            for box in describe_boxes(rows[:NAMED], geometry)
        ]
        return kept, crops

    return cut


def _classifying(side: Side) -> Callable[[_Named], _Named]:
    def classify(found: _Named) -> _Named:
        kept, crops = found
        parts = [side.answer(crops[i : i + NAMED]) for i in range(0, len(crops), NAMED)]
        return kept, [logits for part in parts for logits in part]

    return classify


def _finishing(finish: Callable[[Batch], Sequence[Any]]) -> Callable[[_Named], _Results]:
    def name(found: _Named) -> _Results:
        kept, logits = found
        rest = iter(finish(np.stack(logits)) if logits else ())
        return [(rows, list(islice(rest, min(len(rows), NAMED)))) for rows in kept]

    return name


def _distance(reference: _Results, candidate: _Results) -> float:
    costs = []
    for (a, ours), (b, theirs) in zip(reference, candidate, strict=True):
        match = match_boxes(a, b)
        names = [np.abs(ours[i] - theirs[j]).sum() for i, j in match.pairs if max(i, j) < NAMED]
        costs.append(box_distance(a, b, match) + float(sum(names)))
    return float(np.mean(costs))
