"""Which of ONNX Runtime's graph optimizers computes something else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain
from typing import TypeVar

from pillsnap.config.optimizers import OPTIMIZERS, Optimizer, in_words
from pillsnap.config.runtime import Runtime
from pillsnap.core.errors import PillsnapError
from pillsnap.diagnose.distance import Figures
from pillsnap.diagnose.trials import Trial

T = TypeVar("T")


def optimizer_trial(
    runtime: Runtime, run: Callable[[Runtime], Figures], vanishes: Callable[[Figures], bool]
) -> Trial | None:
    """The fewest optimizers without which the difference vanishes, where that is known to be so
    without any; None where none that is known by name does it.

    Args:
        runtime: of the cell.
        run: the figures under another one.
    """

    def without(found: Sequence[tuple[Optimizer, ...]]) -> Runtime:
        names = dict.fromkeys([*runtime.disabled_optimizers, *chain(*found)])
        return replace(runtime, disabled_optimizers=tuple(names))

    def heals(found: Sequence[tuple[Optimizer, ...]]) -> bool:
        try:
            return vanishes(run(without(found)))
        except PillsnapError:
            return False  # one that the others build on

    guilty = fewest(OPTIMIZERS, heals)
    if not guilty:
        return None
    names = ", ".join(chain(*guilty))
    return Trial(
        "runtime",
        f"without {names}",
        f"optimizer{'s' * (len(guilty) > 1)} {' and '.join(map(in_words, guilty))}",
        lambda: run(without(guilty)),
        hint=f"runtime.disabled_optimizers: [{', '.join(without(guilty).disabled_optimizers)}]",
    )


def fewest(items: Sequence[T], passes: Callable[[Sequence[T]], bool]) -> Sequence[T]:
    """Some of the items that pass together, none of which can be left out; () where all of them do
    not: delta debugging (A. Zeller and R. Hildebrandt, Simplifying and isolating failure-inducing
    input, 2002). One that passes alone takes about two trials for each halving."""
    if not passes(items):
        return ()
    parts = 2
    while len(items) > 1:
        size = -(-len(items) // parts)
        starts = range(0, len(items), size)
        chunks = [items[start : start + size] for start in starts]
        # In two parts, the rest of one is the other.
        rests = [[*items[:start], *items[start + size :]] for start in starts] if parts > 2 else []
        smaller = next((each for each in (*chunks, *rests) if passes(each)), None)
        if smaller is not None:
            parts = 2 if smaller in chunks else max(parts - 1, 2)
            items = smaller
        elif parts < len(items):
            parts = min(2 * parts, len(items))
        else:
            break
    return items
