"""How exact outputs are, in units of the reference's own rounding error.

    e_ref     = rms(reference in float32 - reference in float64)
    e_cand    = rms(candidate            - reference in float64)
    exactness = e_cand / e_ref

A float32 export and the float32 checkpoint are two roundings of one function, and the same pass in
float64 says which is closer. A healthy export rounds as much as torch does, whatever the model: its
exactness is near 1 where differences in pixels or probabilities run over nine orders of magnitude.
Judging a result against one of higher precision, in units of a trusted implementation's error, is
how LAPACK's tests set their thresholds (Anderson et al., LAPACK Users' Guide, 1999, ch. 4).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Exact = NDArray[np.float64]

# Why a cell is inconclusive whose profile has a tolerance of exactness.
NOT_EXACT = (
    "exactness is judged and could not be measured: the reference has no outputs in float64 (a "
    "golden bundle of an older version, which is to be written again, an engine that has none, or "
    "not one image); exactness: null judges prob_err_max or raw_*, where they are set"
)

# End the names of figures, after the kind of output: how exact the candidate is, and what the
# reference itself rounds by.
EXACTNESS, ROUNDING = "_exactness", "_rounding"

# Bits of a float64's significand: no output keeps more.
_MOST_BITS = 53.0


@dataclass(frozen=True)
class OutputPart:
    """One kind of numbers in an output, which has a rounding error of its own.

    Attributes:
        kind: what they are: "logits", "box" (px) or "score".
        values: of a batch, in any shape.
        stride: of the head they come from; None where there are no strides.
        scale: magnitude that the arithmetic goes through, however small the values are.
    """

    kind: str
    values: NDArray[Any]
    stride: int | None = None
    scale: float = 0.0


@dataclass(frozen=True)
class PartError:
    """Errors of one part, root mean squares over some images, in the part's own unit.

    Attributes:
        signal: of the exact values themselves, or the magnitude that the arithmetic goes through
            where that is more.
        reference, candidate: of each side's difference from them; inf where a side is not finite.
        unit: half a unit in the last place of the signal: no float32 run is held to less. A head of
            zeros has no error, and few values may have none by luck.
    """

    kind: str
    stride: int | None
    signal: float
    reference: float
    candidate: float
    unit: float

    @property
    def rounding(self) -> float:
        """The reference's error, which is taken as `unit` at least."""
        return max(self.reference, self.unit)

    @property
    def exactness(self) -> float:
        """The candidate's error over the reference's."""
        return self.candidate / self.rounding

    @property
    def bits(self) -> float:
        """Binary digits of the signal that the candidate keeps; float32 near 20, half near 10."""
        if not self.signal or not math.isfinite(self.candidate):
            return 0.0
        least = self.signal * 2**-_MOST_BITS
        return max(0.0, math.log2(self.signal / max(self.candidate, least)))


def measure_errors(
    exact: Sequence[OutputPart], reference: Sequence[OutputPart], candidate: Sequence[OutputPart]
) -> list[PartError]:
    """Errors of every part of both sides' outputs for the same images."""
    found = []
    for right, ref, cand in zip(exact, reference, candidate, strict=True):
        wide = right.values.astype(np.float64)
        with np.errstate(invalid="ignore", over="ignore"):
            e_ref, e_cand = (_rms(side.values - wide) for side in (ref, cand))
            signal = max(_rms(wide), right.scale)
            unit = 0.5 * float(np.spacing(np.float32(signal)))
            found.append(PartError(right.kind, right.stride, signal, e_ref, e_cand, unit))
    return found


def _rms(values: NDArray[Any]) -> float:
    root = math.sqrt(float(np.square(values).mean())) if values.size else 0.0
    return root if math.isfinite(root) else math.inf


def _largest(errors: Iterable[PartError]) -> dict[str, float]:
    """<kind>_exactness and <kind>_rounding, the largest of each kind."""
    found: dict[str, float] = {}
    for error in errors:
        for end, value in ((EXACTNESS, error.exactness), (ROUNDING, error.rounding)):
            found[error.kind + end] = max(found.get(error.kind + end, 0.0), value)
    return found


def exactness_metrics(
    errors: Sequence[PartError], figures: Iterable[str], per_stride: Sequence[dict[str, Any]] = ()
) -> dict[str, float | None]:
    """Figures of a cell: of each kind the largest exactness and the reference's largest rounding
    error, in the outputs' unit; and precision_bits, the smallest.

    Args:
        errors: () where the reference cannot be run in float64.
        figures: names of those of exactness that a cell of this task has; None where they could
            not be measured.
        per_stride: rows of the cell's figures; each gets its own.
    """
    kinds = [name.removesuffix(EXACTNESS) for name in figures]
    names = [kind + end for kind in kinds for end in (EXACTNESS, ROUNDING)]
    # That a reference which is not finite has no signal is said elsewhere.
    known = [error for error in errors if math.isfinite(error.signal + error.reference)]
    bits = min((error.bits for error in known), default=None)
    for row in per_stride:
        own = _largest(error for error in known if error.stride == row["stride"])
        row.update({name: own.get(name) for name in names})
    largest = _largest(known)
    return {"precision_bits": bits, **{name: largest.get(name) for name in names}}
