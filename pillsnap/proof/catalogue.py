"""All faults that the gate is tried on."""

from __future__ import annotations

from pillsnap.proof import boxes, exporting, numeric, preprocessing, runtime, weights
from pillsnap.proof.fault import Fault

FAULTS: tuple[Fault, ...] = (
    *preprocessing.FAULTS,
    *exporting.FAULTS,
    *weights.FAULTS,
    *numeric.FAULTS,
    *boxes.FAULTS,
    *runtime.FAULTS,
)


def find_fault(id: str) -> Fault:
    """A fault by its id, as in classification-bgr_for_rgb; raises KeyError."""
    return {fault.id: fault for fault in FAULTS}[id]
