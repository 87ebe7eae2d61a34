"""The controller's book: shards promised, outcomes that came back, and the verdict of each cell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pillsnap.datasets import Sample
from pillsnap.errors import PillsnapError
from pillsnap.figures import Figures, Metrics
from pillsnap.figures.classification import classification_figures
from pillsnap.figures.detection import detection_figures
from pillsnap.gate import Verdict, judge, profile_for
from pillsnap.matrix import Cell, Shard
from pillsnap.records import Columns, concatenate, read_records
from pillsnap.run import GateRun, Outcome

SEVERITY = ("equivalent", "within_tolerance", "inconclusive", "breach")


@dataclass(frozen=True)
class CellResult:
    """A judged cell.

    Attributes:
        columns: the records in sample order; None when nothing was measured.
        profile: the tolerance profile it was held to.
        outcomes: of its shards, in order.
    """

    cell: Cell
    verdict: Verdict
    profile: str
    outcomes: tuple[Outcome, ...]
    samples: tuple[Sample, ...] = ()
    columns: Columns | None = None
    metrics: Metrics = field(default_factory=dict)
    worst: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        return sum(outcome.seconds for outcome in self.outcomes)

    @property
    def unreadable(self) -> dict[str, str]:
        return {key: why for outcome in self.outcomes for key, why in outcome.unreadable.items()}

    @property
    def severity(self) -> int:
        return SEVERITY.index(self.verdict.name)


class Ledger:
    """Keeps what the items of a run report, and judges the cells when all have."""

    def __init__(self, run: GateRun) -> None:
        self._run = run
        self._shards = {shard.id: shard for shard in run.shards()}
        self._expected: set[str] = set()
        self._outcomes: dict[str, Outcome] = {}

    def shard_of(self, nodeid: str) -> Shard | None:
        """The shard behind a test item, by the id in its brackets."""
        _, bracket, rest = nodeid.partition("[")
        return self._shards.get(rest.removesuffix("]")) if bracket else None

    def expect(self, nodeids: Iterable[str]) -> None:
        """Note the items that were collected and will run."""
        for nodeid in nodeids:
            shard = self.shard_of(nodeid)
            if shard is not None:
                self._expected.add(shard.id)

    def add(self, outcome: Mapping[str, Any]) -> None:
        """Note what an item reported (Outcome.as_dict)."""
        self._outcomes[outcome["shard"]] = Outcome(**outcome)

    def add_failure(self, shard: Shard, message: str) -> None:
        """Note an item that ended without an outcome of its own: a crash inside the item."""
        self._outcomes.setdefault(shard.id, Outcome(shard.id, ("unmeasured", message)))

    @property
    def expected(self) -> int:
        return len(self._expected)

    @property
    def missing(self) -> list[str]:
        """Shards that were collected and never reported."""
        return sorted(self._expected - self._outcomes.keys())

    def skipped(self) -> dict[str, str]:
        """Reason by shard id, of the shards that were skipped."""
        return {
            key: outcome.failure[1]
            for key, outcome in sorted(self._outcomes.items())
            if outcome.failure is not None and outcome.failure[0] == "skipped"
        }

    def results(self) -> list[CellResult]:
        """Judge every expected cell that was not skipped as a whole, in the order of collection."""
        ran = self._expected - self.skipped().keys()
        cells = dict.fromkeys(shard.cell for shard in self._shards.values() if shard.id in ran)
        return [self._judge(cell) for cell in cells]

    def _judge(self, cell: Cell) -> CellResult:
        shards = [shard for shard in self._shards.values() if shard.cell == cell]
        outcomes = tuple(self._outcomes[shard.id] for shard in shards if shard.id in self._outcomes)
        profiles = self._run.config.compare.tolerances
        profile = profile_for(cell.precision, profiles)
        unjudged = _unjudged(shards, outcomes)
        if unjudged is not None:
            return CellResult(cell, unjudged, profile, outcomes)
        try:
            columns, figures, samples = self._measure(cell, outcomes)
        except PillsnapError as error:
            verdict = Verdict("inconclusive", reason=str(error))
            return CellResult(cell, verdict, profile, outcomes)
        unreadable = sum(len(outcome.unreadable) for outcome in outcomes)
        strict = self._run.selection.gate_strict and not unreadable
        verdict = judge(figures, profiles, profile, gate_strict=strict)
        if unreadable and not verdict.failed:
            reason = f"{unreadable} of {len(samples)} images could not be read"
            verdict = Verdict("inconclusive", reason=reason)
        return CellResult(
            cell,
            verdict,
            profile,
            outcomes,
            tuple(samples),
            columns,
            figures.metrics,
            figures.worst,
        )

    def _measure(
        self, cell: Cell, outcomes: Sequence[Outcome]
    ) -> tuple[Columns, Figures, list[Sample]]:
        parts = [
            read_records(Path(outcome.file), outcome.sha256)
            for outcome in outcomes
            if outcome.file is not None and outcome.sha256 is not None
        ]
        if not parts:
            raise PillsnapError("not one image could be read")
        columns = concatenate(parts)
        samples = self._run.samples(cell)
        config = self._run.config
        if cell.stage == "classification":
            classes = config.classification.num_classes
            return columns, classification_figures(columns, classes), samples
        truth = {sample.id: sample.boxes for sample in samples}
        strides = outcomes[0].strides
        figures = detection_figures(columns, truth, strides, config.nms.max_detections)
        return columns, figures, samples


def judge_mode(run: GateRun, mode: str) -> list[CellResult]:
    """Run and judge every cell of a mode here and now, shard after shard, without pytest."""
    ledger = Ledger(run)
    shards = [shard for shard in run.shards() if shard.cell.mode == mode]
    ledger.expect(f"[{shard.id}]" for shard in shards)
    for shard in shards:
        ledger.add(run.run(shard).as_dict())
    return ledger.results()


def _unjudged(shards: Sequence[Shard], outcomes: Sequence[Outcome]) -> Verdict | None:
    """The verdict of a cell whose figures cannot stand, or None where they can."""
    failures = [outcome.failure for outcome in outcomes if outcome.failure is not None]
    for kind, message in failures:
        if kind == "breach":
            return Verdict("breach", reason=message)
    if failures:
        return Verdict("inconclusive", reason=failures[0][1])
    if len(outcomes) < len(shards):
        reason = f"{len(outcomes)} of {len(shards)} shards reported"
        return Verdict("inconclusive", reason=reason)
    return None
