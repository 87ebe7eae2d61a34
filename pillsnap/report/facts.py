"""What the report says of a run as a whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pillsnap.gate.release import Release


@dataclass(frozen=True)
class RunFacts:
    """What the report says of the run as a whole.

    Attributes:
        command: repeats this run's cells, whatever the number of workers was.
        missing: shards that were collected and never reported.
        skipped: reason by shard.
        unmeasured: ids of cells that were asked for and skipped as a whole.
        budgets: of --perf-budget.
        data: SHA-256 over names and labels of all validation data, by stage.
        release: which files the run approves, and what becomes of latest_.
        diagnoses: by cell id, of the cells that were diagnosed.
    """

    run: str
    started: datetime
    command: str
    threads: int
    exit_code: int
    complete: bool
    missing: Sequence[str]
    skipped: dict[str, str]
    unmeasured: Sequence[str] = ()
    budgets: Mapping[str, float] = field(default_factory=dict)
    data: Mapping[str, str | None] = field(default_factory=dict)
    release: Release = field(default_factory=Release)
    diagnoses: Mapping[str, dict[str, Any]] = field(default_factory=dict)
