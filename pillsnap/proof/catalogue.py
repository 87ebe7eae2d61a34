"""All faults that the gate is tried on."""

from __future__ import annotations

# Importing a module declares its faults.
from pillsnap.proof import (  # noqa: F401
    boxes,
    declaring,
    exporting,
    numeric,
    preprocessing,
    runtime,
    weights,
)
from pillsnap.proof.fault import GROUPS, Fault, all_faults

FAULTS: tuple[Fault, ...] = tuple(sorted(all_faults(), key=lambda f: GROUPS.index(f.group)))


def find_fault(id: str) -> Fault:
    """A fault by its id, as in classification-bgr_for_rgb; raises KeyError."""
    return {fault.id: fault for fault in FAULTS}[id]
