"""Hypotheses about a difference, each with the intervention that would make it vanish."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from pillsnap.core.errors import PillsnapError
from pillsnap.diagnose.distance import Figures, over_noise

# Pixels times 255 that were divided by it once too often lack their last digits.
_UNDONE = 1e-3


@dataclass(frozen=True)
class Trial:
    """One hypothesis.

    Attributes:
        kind: decoding, runtime, preprocessing, conversion, weights or precision.
        name: what is done.
        cause: what is wrong if that makes the difference vanish.
        run: the figures after the intervention; raises PillsnapError where it cannot be done.
    """

    kind: str
    name: str
    cause: str
    run: Callable[[], Figures]


@dataclass(frozen=True)
class Tried:
    """A trial's result; `after` is None and `problem` says why where it could not be run."""

    kind: str
    name: str
    cause: str
    after: Figures | None
    vanishes: bool
    problem: str | None = None


@dataclass(frozen=True)
class Causes:
    """What interventions tell.

    Attributes:
        before: the figures without one.
        noise: what counts as none, in multiples of `over_noise`.
        tried: in the order in which they ran, up to the first that made the difference vanish.
        stated: that one's cause; None where none did.
    """

    before: Figures
    noise: float
    tried: tuple[Tried, ...]
    stated: Tried | None

    def in_words(self) -> str:
        """One sentence with the figures before and after."""
        if over_noise(self.before) <= self.noise:
            return (
                "nothing differs beyond rounding on these samples by themselves "
                f"({_text(self.before)})"
            )
        if self.stated is None or self.stated.after is None:
            return f"not explained: none of {len(self.tried)} interventions makes it vanish"
        change = f"{_text(self.before)} -> {_text(self.stated.after)}"
        return f"{self.stated.cause} ({self.stated.name}: {change})"

    def as_dict(self) -> dict[str, Any]:
        """Plain builtins, for the report."""
        return {
            "before": self.before,
            "noise": self.noise,
            "stated": None if self.stated is None else self.stated.cause,
            "kind": None if self.stated is None else self.stated.kind,
            "in_words": self.in_words(),
            "tried": [vars(each).copy() for each in self.tried],
        }


def run_trials(before: Figures, noise: float, trials: Iterable[Trial]) -> Causes:
    """Run trials in order until one makes the difference vanish: what is left is noise, or what
    rounding leaves of a large difference that is undone."""
    if over_noise(before) <= noise:
        return Causes(before, noise, (), None)
    left = max(noise, min(_UNDONE * over_noise(before), 1.0))
    tried: list[Tried] = []
    for trial in trials:
        tried.append(_try(trial, left))
        if tried[-1].vanishes:
            return Causes(before, noise, tuple(tried), tried[-1])
    return Causes(before, noise, tuple(tried), None)


def _try(trial: Trial, left: float) -> Tried:
    try:
        after = trial.run()
    except PillsnapError as error:
        return Tried(trial.kind, trial.name, trial.cause, None, False, error.what)
    return Tried(trial.kind, trial.name, trial.cause, after, over_noise(after) <= left)


def _text(figures: Figures) -> str:
    return ", ".join(f"{name} {value:.2g}" for name, value in figures.items())


Trials = Iterator[Trial]
