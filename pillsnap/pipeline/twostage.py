"""The two-stage pipeline: what a photo shows, by whichever engine runs the two models.

`single` classifies the photo of one pill; `combo` finds pills, cuts each out and classifies it. The
caller chooses: nothing guesses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pillsnap.core.errors import EngineError
from pillsnap.pipeline.codes import ClassCodes
from pillsnap.pipeline.crops import crop_box
from pillsnap.pipeline.preprocess import Pixels, Tensor, preprocess_placed, unletterbox
from pillsnap.pipeline.softmax import softmax
from pillsnap.pipeline.transforms import Geometry

Result = dict[str, Any]

# The two models, as files, reports and results name them.
DETECTION, CLASSIFICATION = "detection", "classification"

# The models that each mode needs.
STAGES_OF = {
    "single": (CLASSIFICATION,),
    "combo": (DETECTION, CLASSIFICATION),
    "boxes": (DETECTION,),
}


@dataclass(frozen=True)
class Stage:
    """One model, ready to run.

    Attributes:
        run: [N,3,H,W] -> logits [N,C], or boxes [N,A,6] (x1,y1,x2,y2,conf,class_id in input pixels,
            before NMS).
        transform: what it is fed, a ClassifyTransform or a LetterboxTransform.
        version: what results say of it, as plain builtins.
    """

    run: Callable[[Tensor], Tensor]
    transform: Any
    version: Mapping[str, Any]


@dataclass(frozen=True)
class Pipeline:
    """Both models, and all that lies between a photo and its codes.

    Attributes:
        stages: the models that the caller needs.
        codes: names of the classifier's classes.
        suppress: the common NMS: rows [A,6] -> int64 indices of those that stay, and whether its
            limit cut off more.
        crop_margin: see crop_box.
        batch_size: most images, or crops, in one forward pass.
    """

    stages: Mapping[str, Stage]
    codes: ClassCodes
    suppress: Callable[[Tensor], tuple[NDArray[np.int64], bool]]
    crop_margin: float = 0.0
    batch_size: int = 16

    def run(self, images: Sequence[Pixels], mode: str) -> list[Result]:
        """One result per image; what keeps one from its result costs the others nothing.

        Args:
            images: uint8 [H, W, 3], RGB.
            mode: "single", "combo", or "boxes" for the detector alone.

        Returns:
            `single`: class_index, code, edi_code, edi_reason and confidence. Otherwise boxes, by
            falling confidence: xyxy in pixels of the image, confidence, class_id and, in `combo`,
            the pill in it as `single` gives one; and truncated, whether there were more than NMS
            may keep. In place of all that, error, where a model gives values for the image, or for
            a pill in it, that are not finite. Always mode and models, their versions by stage.

        Raises:
            EngineError: a model that the mode needs is missing or cannot run.
        """
        if mode == "single":
            found = self._classify(images)
        elif mode == "combo":
            found = self._combo(images)
        else:
            found = self._detect(images)
        models = {stage: dict(self.stages[stage].version) for stage in STAGES_OF[mode]}
        return [{"mode": mode, **result, "models": models} for result in found]

    def _stage(self, name: str) -> Stage:
        if name not in self.stages:
            raise EngineError(
                f"this needs a {name} model, and none is loaded",
                hint="choose another mode, or load one",
            )
        return self.stages[name]

    def _combo(self, images: Sequence[Pixels]) -> list[Result]:
        self._stage(CLASSIFICATION)  # before the detector has worked for nothing
        found = self._detect(images)
        crops = [
            crop_box(image, box["xyxy"], self.crop_margin)
            for image, result in zip(images, found, strict=True)
            for box in result.get("boxes", ())
        ]
        pills = iter(self._classify(crops))
        return [_with_pills(result, pills) for result in found]

    def _classify(self, images: Sequence[Pixels]) -> list[Result]:
        return self._answer(CLASSIFICATION, images, lambda logits, _: self._name_pill(logits))

    def _detect(self, images: Sequence[Pixels]) -> list[Result]:
        return self._answer(DETECTION, images, self._find_boxes)

    def _answer(
        self, stage: str, images: Sequence[Pixels], describe: Callable[[Tensor, Any], Result]
    ) -> list[Result]:
        """What one model says of images, in batches; `describe` makes a result of its answer for an
        image, and of where a letterboxed image lay in its input."""
        model, results = self._stage(stage), []
        for start in range(0, len(images), self.batch_size):
            part = images[start : start + self.batch_size]
            placed = [preprocess_placed(image, model.transform) for image in part]
            outputs = model.run(np.stack([tensor for tensor, _ in placed]))
            for output, (_, geometry) in zip(outputs, placed, strict=True):
                # NMS would drop such rows, and the photo would pass for one without pills.
                if np.isfinite(output).all():
                    results.append(describe(output, geometry))
                else:
                    error = f"the {stage} model gave values that are not finite"
                    results.append({"error": error})
        return results

    def _name_pill(self, logits: Tensor) -> Result:
        probabilities = softmax(logits)
        index = int(probabilities.argmax())
        named = {"class_index": index, **self.codes.describe(index)}
        return {**named, "confidence": round(float(probabilities[index]), 6)}

    def _find_boxes(self, rows: Tensor, geometry: Geometry) -> Result:
        kept, truncated = self.suppress(rows)
        return {"boxes": describe_boxes(rows[kept], geometry), "truncated": truncated}


def _with_pills(result: Result, pills: Iterator[Result]) -> Result:
    """A photo's result with the next pills in its boxes; the error of one is the photo's."""
    if "error" in result:
        return result
    boxes = [{**box, "pill": next(pills)} for box in result["boxes"]]
    errors = [box["pill"] for box in boxes if "error" in box["pill"]]
    return errors[0] if errors else {**result, "boxes": boxes}


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
