"""What the report says of an earlier one."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pillsnap.report.models.values import Part

Value = float | str | None


class Change(Part):
    cell: str
    figure: str
    old: Value
    new: Value
    outcome: Literal["worse", "better", "same", "not compared"]
    how: str = Field(description="It was judged, or why it cannot be")
    low: float | None = Field(description="One-sided 95 % bound of what `how` says, as is high")
    high: float | None


class Setting(Part):
    name: str
    old: str | None
    new: str | None


class Against(Part):
    """What got worse, or better, since the report that --against names; null without it"""

    report: str | None = Field(description="Its path; null where none fits")
    run: str | None
    changes: list[Change] = Field(description="Of every figure of a cell that both have")
    settings: list[Setting] = Field(description="What both runs were of and where, equal or not")
    problem: str | None = Field(description="Why nothing was compared")
