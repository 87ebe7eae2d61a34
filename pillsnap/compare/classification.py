"""Records of the classifier: how far two sets of logits are apart, sample by sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pillsnap.compare.exactness import Exact, OutputPart, PartError, measure_errors
from pillsnap.compare.records import Columns
from pillsnap.data.datasets import Sample
from pillsnap.engines import Batch
from pillsnap.pipeline.softmax import softmax
from pillsnap.pipeline.transforms import Geometry

# Of each sample, so many classes are recorded with their probabilities.
LISTED_CLASSES = 5


class ClassificationRecorder:
    """Columns per sample (float64 unless said):

    label int64 (-1 unknown), ref_top1 and cand_top1 int64, ref_prob (the reference's top
    probability), ref_margin (its top-1 minus its top-2 probability), mse (squared probability
    error, mean over classes), sse (the same, summed: does not shrink with more classes),
    prob_err_max, logit_err_max, kl (KL divergence reference to candidate, nats), logit_power and
    logit_err_power (sums of squares over classes of the centred logits and of their error),
    ref_finite and cand_finite bool. Where either side is not finite the errors are nan.
    ref_classes and cand_classes int32 [k], the classes that each side finds most probable, the most
    probable first, and ref_probs and cand_probs float32 [k], their probabilities.
    """

    drift: Mapping[str, str] = {"prob_err_max": "prob_err_max", "logit_err_max": "logit_err_max"}

    def as_candidate(self, output: Batch) -> Batch:
        return output

    def as_reference(self, output: Batch, ref: Batch) -> Batch:
        return output

    def errors(self, exact: Exact, ref: Batch, cand: Batch) -> list[PartError]:
        return measure_errors(self.parts(exact), self.parts(ref), self.parts(cand))

    def parts(self, output: NDArray[Any]) -> list[OutputPart]:
        return [OutputPart("logits", output)]

    def columns(
        self, samples: Sequence[Sample], geometries: Sequence[Geometry], ref: Batch, cand: Batch
    ) -> Columns:
        with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
            return {
                "id": np.array([sample.id for sample in samples]),
                "label": np.array(
                    [-1 if sample.label is None else sample.label for sample in samples], np.int64
                ),
                **_errors(ref, cand),
            }


def _errors(ref: Batch, cand: Batch) -> Columns:
    p, q = softmax(ref), softmax(cand)
    error = q - p
    square = error**2
    top2 = np.partition(p, -2, axis=1)[:, -2:]
    # Softmax ignores a shift of all logits, so the power is that of the centred ones.
    wide = ref.astype(np.float64)
    drift = cand.astype(np.float64) - wide
    tiny = np.finfo(np.float64).tiny
    return {
        **_most_probable("ref", p),
        **_most_probable("cand", q),
        "ref_top1": np.argmax(ref, axis=1).astype(np.int64),
        "cand_top1": np.argmax(cand, axis=1).astype(np.int64),
        "ref_prob": top2[:, 1],
        "ref_margin": top2[:, 1] - top2[:, 0],
        "mse": square.mean(axis=1),
        "sse": square.sum(axis=1),
        "prob_err_max": np.abs(error).max(axis=1),
        "logit_err_max": np.abs(drift).max(axis=1),
        "kl": (p * (np.log(np.maximum(p, tiny)) - np.log(np.maximum(q, tiny)))).sum(axis=1),
        "logit_power": _power(wide),
        "logit_err_power": _power(drift),
        "ref_finite": np.isfinite(ref).all(axis=1),
        "cand_finite": np.isfinite(cand).all(axis=1),
    }


def _most_probable(side: str, probabilities: NDArray[np.float64]) -> Columns:
    count = min(LISTED_CLASSES, probabilities.shape[1])
    first = np.argpartition(-probabilities, count - 1, axis=1)[:, :count]
    order = np.argsort(-np.take_along_axis(probabilities, first, axis=1), axis=1, kind="stable")
    first = np.take_along_axis(first, order, axis=1)
    return {
        f"{side}_classes": first.astype(np.int32),
        f"{side}_probs": np.take_along_axis(probabilities, first, axis=1).astype(np.float32),
    }


def _power(values: NDArray[np.float64]) -> NDArray[np.float64]:
    power: NDArray[np.float64] = ((values - values.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
    return power
