"""The two-stage pipeline: what a photo shows, by whichever engine runs the two models.

`single` classifies the photo of one pill; `combo` finds pills, cuts each out and classifies it. The
caller chooses: nothing guesses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from pillsnap.core.errors import EngineError
from pillsnap.pipeline.codes import ClassCodes
from pillsnap.pipeline.crops import crop_box
from pillsnap.pipeline.preprocess import classify_tensor, letterbox_tensor, unletterbox
from pillsnap.pipeline.transforms import ClassifyTransform, Geometry, LetterboxTransform

Pixels = NDArray[np.uint8]
Tensor = NDArray[np.float32]
Result = dict[str, Any]

# The two models, as files, reports and results name them.
DETECTION, CLASSIFICATION = "detection", "classification"

# The models that each mode needs.
STAGES_OF = {
    "single": (CLASSIFICATION,),
    "combo": (DETECTION, CLASSIFICATION),
    "boxes": (DETECTION,),
}

T = TypeVar("T")
Transform = TypeVar("Transform")


@dataclass(frozen=True)
class Stage(Generic[Transform]):
    """One model, ready to run.

    Attributes:
        run: [N,3,H,W] -> logits [N,C], or boxes [N,A,6] (x1,y1,x2,y2,conf,class_id in input pixels,
            before NMS).
        transform: what it is fed.
        version: what results say of it, as plain builtins.
    """

    run: Callable[[Tensor], Tensor]
    transform: Transform
    version: Mapping[str, Any]


@dataclass(frozen=True)
class Pipeline:
    """Both models, and all that lies between a photo and its codes.

    Attributes:
        classifier, detector: None where the caller needs none.
        codes: names of the classifier's classes.
        suppress: the common NMS: rows [A,6] -> int64 indices of those that stay.
        softmax: logits [N,C] -> probabilities [N,C].
        crop_margin: see crop_box.
        batch_size: most images, or crops, in one forward pass.
    """

    classifier: Stage[ClassifyTransform] | None
    detector: Stage[LetterboxTransform] | None
    codes: ClassCodes
    suppress: Callable[[Tensor], NDArray[np.int64]]
    softmax: Callable[[Tensor], NDArray[np.float64]]
    crop_margin: float = 0.0
    batch_size: int = 16

    def run(self, images: Sequence[Pixels], mode: str) -> list[Result]:
        """One result per image.

        Args:
            images: uint8 [H, W, 3], RGB.
            mode: "single", "combo", or "boxes" for the detector alone.

        Returns:
            `single`: class_index, code, edi_code, edi_reason and confidence. Otherwise boxes, by
            falling confidence: xyxy in pixels of the image, confidence, class_id and, in `combo`,
            the pill in it as `single` gives one. Always mode and models, their versions by stage.

        Raises:
            EngineError: a model that the mode needs is missing, cannot run, or gives values that
                are not finite.
        """
        if mode == "single":
            found = self._classify(images)
        elif mode == "combo":
            found = self._combo(images)
        else:
            found = [{"boxes": boxes} for boxes in self._detect(images)]
        models = {stage: dict(self.stages[stage].version) for stage in STAGES_OF[mode]}
        return [{"mode": mode, **result, "models": models} for result in found]

    @property
    def stages(self) -> dict[str, Stage[Any]]:
        """The models that are loaded, by stage."""
        both = {DETECTION: self.detector, CLASSIFICATION: self.classifier}
        return {stage: model for stage, model in both.items() if model is not None}

    def _combo(self, images: Sequence[Pixels]) -> list[Result]:
        _require(self.classifier, CLASSIFICATION)  # before the detector has worked for nothing
        found = self._detect(images)
        crops = [
            crop_box(image, box["xyxy"], self.crop_margin)
            for image, boxes in zip(images, found, strict=True)
            for box in boxes
        ]
        pills = iter(self._classify(crops))
        return [{"boxes": [{**box, "pill": next(pills)} for box in boxes]} for boxes in found]

    def _classify(self, images: Sequence[Pixels]) -> list[Result]:
        model, results = _require(self.classifier, CLASSIFICATION), []
        for part in _parts(images, self.batch_size):
            tensors = [classify_tensor(image, model.transform) for image in part]
            for probabilities in self.softmax(_run(model, tensors, CLASSIFICATION)):
                index = int(probabilities.argmax())
                named = {"class_index": index, **self.codes.describe(index)}
                results.append({**named, "confidence": round(float(probabilities[index]), 6)})
        return results

    def _detect(self, images: Sequence[Pixels]) -> list[list[Result]]:
        model, results = _require(self.detector, DETECTION), []
        for part in _parts(images, self.batch_size):
            tensors, geometries = zip(
                *(letterbox_tensor(image, model.transform) for image in part),
                strict=True,
            )
            for rows, geometry in zip(_run(model, tensors, DETECTION), geometries, strict=True):
                results.append(describe_boxes(rows[self.suppress(rows)], geometry))
        return results


def _require(model: Stage[Transform] | None, stage: str) -> Stage[Transform]:
    if model is None:
        raise EngineError(
            f"this needs a {stage} model, and none is loaded",
            hint="choose another mode, or load one",
        )
    return model


def _run(model: Stage[Any], tensors: Sequence[Tensor], stage: str) -> Tensor:
    output = model.run(np.stack(tensors))
    if not np.isfinite(output).all():
        # NMS would drop such rows, and the photo would pass for one without pills.
        raise EngineError(f"the {stage} model gave values that are not finite")
    return output


def describe_boxes(rows: Tensor, geometry: Geometry) -> list[Result]:
    """Kept rows [K,6] in input pixels -> boxes of the original image."""
    return [
        {
            "xyxy": [round(float(side), 2) for side in sides],
            "confidence": round(float(row[4]), 6),
            "class_id": int(row[5]),
        }
        for row, sides in zip(rows, unletterbox(rows[:, :4], geometry), strict=True)
    ]


def _parts(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
