"""What a report is beside an earlier one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Outcome = Literal["worse", "better", "same", "not compared"]
OTHERS: tuple[Outcome, ...] = ("better", "same", "not compared")
Value = float | str | None


@dataclass(frozen=True)
class Change:
    """A figure of a cell in both reports.

    Attributes:
        low, high: 95 % bounds, each one-sided, of what `how` says; None where there are none.
        how: how it was judged, or why it cannot be.
    """

    cell: str
    figure: str
    old: Value
    new: Value
    outcome: Outcome
    how: str
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        text = f"{self.cell}: {self.figure}"
        if (self.old, self.new) != (None, None):
            text += f" {shown_value(self.old)} -> {shown_value(self.new)}"
        return f"{text} ({self.reason})" if self.reason else text

    @property
    def reason(self) -> str:
        """How it was judged, with the bounds."""
        if self.low is None or self.high is None:
            return self.how
        return f"{self.how}: {self.low:.3g} to {self.high:.3g} at 95 %"


@dataclass(frozen=True)
class Setting:
    """What a run was of and where, in both reports."""

    name: str
    old: str | None
    new: str | None

    @property
    def unchanged(self) -> bool:
        return self.old == self.new

    def __str__(self) -> str:
        return f"{self.name}: {shown_value(self.old)} -> {shown_value(self.new)}"


@dataclass(frozen=True)
class Comparison:
    """A report beside an earlier one.

    Attributes:
        report: path of the earlier one; None where there is none that fits.
        run: its run.
        problem: why nothing was compared.
    """

    report: str | None
    run: str | None
    changes: Sequence[Change] = ()
    settings: Sequence[Setting] = ()
    problem: str | None = None

    def of(self, outcome: Outcome) -> list[Change]:
        return [change for change in self.changes if change.outcome == outcome]

    @property
    def regressed(self) -> bool:
        """Whether something got worse, or nothing could be compared though a report was named."""
        return bool(self.of("worse")) or (self.report is not None and not self.compared)

    @property
    def compared(self) -> bool:
        """Whether anything could be."""
        return any(change.outcome != "not compared" for change in self.changes)

    def as_dict(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "changes": [asdict(change) for change in self.changes],
            "settings": [asdict(setting) for setting in self.settings],
        }

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> Comparison:
        changes = [Change(**each) for each in found["changes"]]
        settings = [Setting(**each) for each in found["settings"]]
        return cls(**{**found, "changes": changes, "settings": settings})

    def lines(self) -> list[str]:
        """In words, a line each: first what got worse."""
        if self.problem is not None:
            return [f"against an earlier report: {self.problem}"]
        found = [f"WORSE {change}" for change in self.of("worse")]
        found += [f"better {change}" for change in self.of("better")]
        found += [f"not compared {change}" for change in self.of("not compared")]
        found += [f"changed {setting}" for setting in self.settings if not setting.unchanged]
        return [*found, f"against run {self.run}: {self.summary}"]

    @property
    def summary(self) -> str:
        """Such as "nothing got worse, 2 better, 14 the same, 3 not compared"."""
        if not self.compared:
            return "nothing could be compared"
        better, same, without = (len(self.of(each)) for each in OTHERS)
        worse = len(self.of("worse"))
        verdict = f"{worse} got worse" if worse else "nothing got worse"
        return f"{verdict}, {better} better, {same} the same, {without} not compared"


def outcome(worse: bool, better: bool) -> Outcome:
    return "worse" if worse else "better" if better else "same"


def shown_value(value: Value) -> str:
    if value is None:
        return "none"
    return value if isinstance(value, str) else f"{value:.3g}"
