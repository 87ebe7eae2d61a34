"""Whether a state dict is of a network, and what to do where it is not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pillsnap.core.printable import listed
from pillsnap.engines.torch.leftovers import leftover_hint
from pillsnap.engines.torch.statedict import COUNTER

if TYPE_CHECKING:
    import torch

_SHOWN = 5


@dataclass(frozen=True)
class Misfit:
    """How a state dict differs from a network's; false where it does not.

    Attributes:
        missing, unexpected: names.
        mismatched: names with both shapes, or both types, in words.
    """

    missing: list[str]
    unexpected: list[str]
    mismatched: list[str]

    def __bool__(self) -> bool:
        return any(vars(self).values())

    @property
    def same_names(self) -> bool:
        return not (self.missing or self.unexpected)

    def __str__(self) -> str:
        return "; ".join(
            f"{len(names)} {title}: {listed(names, _SHOWN, 100)}"
            for title, names in vars(self).items()
            if names
        )

    def hint(self) -> str | None:
        """What to do, where the names say what it is about; None where they do not."""
        found = leftover_hint(self.unexpected)
        if found is None and self.unexpected and not (self.missing or self.mismatched):
            found = (
                "all that the network needs is there: if what is unexpected plays no part in its "
                "answers, save the state dict without"
            )
        return found


def find_misfit(module: torch.nn.Module, state: Mapping[str, torch.Tensor]) -> Misfit:
    """Hold names, shapes and kinds of numbers of a state dict against a network's."""
    wanted = module.state_dict()
    return Misfit(
        [key for key in wanted if key not in state and not key.endswith(COUNTER)],
        [key for key in state if key not in wanted],
        [
            f"{key} {list(state[key].shape)} instead of {list(wanted[key].shape)}"
            for key in wanted
            if key in state and state[key].shape != wanted[key].shape
        ]
        + [
            f"{key} of {state[key].dtype} instead of {wanted[key].dtype}"
            for key in wanted
            # Quantised weights without their scales, say, are another network's.
            if key in state
            and wanted[key].is_floating_point()
            and not state[key].is_floating_point()
        ],
    )
