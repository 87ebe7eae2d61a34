"""What a checkpoint may ask for: what it makes is bounded by the file, not by what it says."""

from __future__ import annotations

# The largest detectors of ultralytics take 190,000 opcodes, with an optimiser's state 400,000.
STEPS = 2_000_000
# What may stand beside the weights without counting: small tensors that are views of one value.
MARGIN = 16 * 2**20
# Entries of one checkpoint share their values: weights, their average, the best so far.
SHARED = 4


class Unreadable(Exception):
    """A file that is whole but asks for what is not given: memory, time, code, another form. What
    it is made of is PillsnapError's."""

    def __init__(self, what: str, got: str | None = None, hint: str | None = None) -> None:
        super().__init__(what)
        self.what, self.got, self.hint = what, got, hint


class Budget:
    """Steps taken, and bytes of tensors and of the storages below them."""

    def __init__(self) -> None:
        self.steps = 0
        self.stored = 0
        self.viewed = 0

    def spend(self, steps: int) -> None:
        """Count opcodes, or what costs as much memory and time as so many; Unreadable where they
        are more than any real checkpoint takes."""
        self.steps += steps
        if self.steps > STEPS:
            raise Unreadable(
                "the checkpoint's pickle is too long",
                f"more than {STEPS:,} steps",
                "save the weights alone: model.state_dict()",
            )

    def require_values(self) -> None:
        """Refuse tensors that are views far larger than the values in the file, as Unreadable."""
        if self.viewed > SHARED * self.stored + MARGIN:
            raise Unreadable(
                "the checkpoint's tensors are larger than the file",
                f"{self.viewed / 2**20:,.1f} MiB of tensors over {self.stored / 2**20:,.1f} MiB "
                "of values",
                "save expanded tensors with .contiguous()",
            )
