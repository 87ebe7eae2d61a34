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
        hint: the option that does it for good; None where there is none.
        narrow: where it makes the difference vanish, a trial of less that may do so too, for a
            function that says whether figures are such; None where there is none.
    """

    kind: str
    name: str
    cause: str
    run: Callable[[], Figures]
    hint: str | None = None
    narrow: Callable[[Callable[[Figures], bool]], Trial | None] | None = None


@dataclass(frozen=True)
class Tried:
    """A trial's result; `after` is None and `problem` says why where it could not be run."""

    kind: str
    name: str
    cause: str
    after: Figures | None
    vanishes: bool
    problem: str | None = None
    hint: str | None = None


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
            "hint": None if self.stated is None else self.stated.hint,
            "in_words": self.in_words(),
            "tried": [vars(each).copy() for each in self.tried],
        }


def run_trials(before: Figures, noise: float, trials: Iterable[Trial]) -> Causes:
    """Run trials in order until one makes the difference vanish: what is left is noise, or what
    rounding leaves of a large difference that is undone."""
    if over_noise(before) <= noise:
        return Causes(before, noise, (), None)
    left = max(noise, min(_UNDONE * over_noise(before), 1.0))

    def vanishes(figures: Figures) -> bool:
        return over_noise(figures) <= left

    tried: list[Tried] = []
    for trial in trials:
        tried.append(_try(trial, vanishes))
        if tried[-1].vanishes:
            narrower = trial.narrow and trial.narrow(vanishes)
            if narrower is not None:
                tried.append(_try(narrower, vanishes))
            stated = next(each for each in reversed(tried) if each.vanishes)
            return Causes(before, noise, tuple(tried), stated)
    return Causes(before, noise, tuple(tried), None)


def _try(trial: Trial, vanishes: Callable[[Figures], bool]) -> Tried:
    what = trial.kind, trial.name, trial.cause
    try:
        after = trial.run()
    except PillsnapError as error:
        return Tried(*what, None, False, error.what)
    return Tried(*what, after, vanishes(after), hint=trial.hint)


def _text(figures: Figures) -> str:
    return ", ".join(f"{name} {value:.2g}" for name, value in figures.items())


Trials = Iterator[Trial]
