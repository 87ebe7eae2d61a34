"""Records of a classifier whose file ends in a softmax: what it gives for logits is logarithms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pillsnap.compare.classification import ClassificationRecorder
from pillsnap.compare.exactness import Exact, PartError, measure_errors
from pillsnap.compare.records import Columns
from pillsnap.data.datasets import Sample
from pillsnap.engines import Batch
from pillsnap.pipeline.layouts import LEAST_PROBABILITY
from pillsnap.pipeline.transforms import Geometry


class ProbabilityRecorder(ClassificationRecorder):
    """ClassificationRecorder's columns of logarithms of probabilities: the reference's logits go
    through the same softmax, in the precision that they are of."""

    def errors(self, exact: Exact, ref: Batch, cand: Batch) -> list[PartError]:
        right, ours = self.parts(_logarithms(exact)), self.parts(_logarithms(ref))
        return measure_errors(right, ours, self.parts(cand))

    def columns(
        self, samples: Sequence[Sample], geometries: Sequence[Geometry], ref: Batch, cand: Batch
    ) -> Columns:
        return super().columns(samples, geometries, _logarithms(ref), cand)


def _logarithms(logits: NDArray[Any]) -> NDArray[Any]:
    """Logarithms of the softmax over [N,C], which is computed as runtimes do, in the type given."""
    with np.errstate(invalid="ignore", over="ignore"):
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        parts = powers / powers.sum(axis=1, keepdims=True)
    found: NDArray[Any] = np.log(np.maximum(parts, logits.dtype.type(LEAST_PROBABILITY)))
    return found
