"""The controller's book: shards promised, outcomes that came back, and the verdict of each cell."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pillsnap.compare.accuracy import expected_accuracy, measure_accuracy, shortfall
from pillsnap.compare.exactness import NOT_EXACT
from pillsnap.compare.figures import Figures
from pillsnap.compare.float32_speed import with_float32_speed
from pillsnap.compare.node_speeds import over_budget, speeds_by_kind
from pillsnap.compare.outcome import Outcome
from pillsnap.compare.records import Records
from pillsnap.compare.result import CellResult
from pillsnap.compare.tasks import task_of
from pillsnap.compare.verdict import Verdict, judge, profile_for
from pillsnap.config.cells import Cell, Shard
from pillsnap.core.errors import DataError, PillsnapError
from pillsnap.core.hashes import sha256_json
from pillsnap.data.datasets import Dataset
from pillsnap.gate.graph import graph_breaches
from pillsnap.gate.own_rounding import measure_exactness
from pillsnap.gate.run import GateRun
from pillsnap.gate.same_file import find_mixup


class Ledger:
    """Keeps what the items of a run report, and judges the cells when all have."""

    def __init__(self, run: GateRun) -> None:
        self._run = run
        self._shards = {shard.id: shard for shard in run.plan.shards()}
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

    def unmeasured(self) -> list[Cell]:
        """Cells that were skipped as a whole, of the stages that a gate must measure."""
        skipped = self.skipped().keys()
        ran = {self._shards[name].cell for name in self._expected - skipped}
        cells = dict.fromkeys(shard.cell for shard in self._shards.values() if shard.id in skipped)
        return [cell for cell in cells if cell not in ran and self._run.plan.asks_for(cell.stage)]

    def results(self) -> list[CellResult]:
        """Judge every expected cell that was not skipped as a whole, in the order of collection."""
        ran = self._expected - self.skipped().keys()
        cells = dict.fromkeys(shard.cell for shard in self._shards.values() if shard.id in ran)
        judged = [replace(self._judge(cell), data=self._data(cell)) for cell in cells]
        return with_float32_speed(judged)

    def _data(self, cell: Cell) -> Dataset | None:
        if self._run.plan.bundle is not None:
            return None
        try:
            return self._run.plan.dataset(cell.stage)
        except DataError:
            return None  # the verdict says why

    def _judge(self, cell: Cell) -> CellResult:
        shards = [shard for shard in self._shards.values() if shard.cell == cell]
        outcomes = tuple(self._outcomes[shard.id] for shard in shards if shard.id in self._outcomes)
        profiles = self._run.config.compare.tolerances
        profile = profile_for(cell.precision, profiles)
        unjudged = _unjudged(shards, outcomes)
        if unjudged is not None:
            return CellResult(cell, unjudged, profile, outcomes)
        try:
            records, figures = self._measure(cell, outcomes)
        except PillsnapError as error:
            verdict = Verdict("inconclusive", reason=str(error))
            return CellResult(cell, verdict, profile, outcomes)
        held = getattr(profiles, profile)
        first = measure_exactness(self._run, cell, outcomes[0], records, figures.metrics, held)
        outcomes = (first, *outcomes[1:])
        unreadable = sum(len(outcome.unreadable) for outcome in outcomes)
        selection = self._run.selection
        speeds = speeds_by_kind(outcomes, contended=self._run.contended)
        verdict = judge(
            figures,
            profiles,
            profile,
            over_budget=graph_breaches(outcomes) + over_budget(speeds, selection.budgets),
            batch_drift=next((each.batching["drift"] for each in outcomes if each.batching), None),
            gate_strict=selection.gate_strict and not unreadable,
            classes_required=self._run.config.compare.min_classes_required,
        )
        task, trained = task_of(cell.stage), outcomes[0].reference
        accuracy = measure_accuracy(
            figures.metrics, task.accuracy, cell, self._run.config, trained.get("recorded")
        )
        if unreadable and not verdict.failed:
            count = sum(outcome.samples for outcome in outcomes)
            reason = f"{unreadable} of {count} images could not be read"
            verdict = Verdict("inconclusive", reason=reason)
        for lacking in (
            NOT_EXACT if held.exactness is not None and first.exactness is None else None,
            shortfall(accuracy, task.accuracy),
        ):
            if lacking is not None and not verdict.failed:
                verdict = Verdict("inconclusive", reason=lacking)
        choice = trained.get("checkpoint_choice")
        if choice and verdict.name == "inconclusive" and not unreadable:
            verdict = replace(verdict, reason=f"{verdict.reason} ({choice})")
        return CellResult(
            cell,
            verdict,
            profile,
            outcomes,
            figures.metrics["samples"],
            _fingerprint(records, task.labels),
            figures.metrics,
            figures.worst,
            next(iter(speeds.values())),
            accuracy=accuracy,
            speeds={str(kind): found for kind, found in speeds.items() if len(speeds) > 1},
        )

    def _measure(self, cell: Cell, outcomes: Sequence[Outcome]) -> tuple[Records, Figures]:
        files = [
            (Path(outcome.file), outcome.sha256)
            for outcome in outcomes
            if outcome.file is not None and outcome.sha256 is not None
        ]
        if not files:
            raise PillsnapError(
                "no image of the pool has a probability inside export.compare.hardness_bins"
                if cell.hard and not any(outcome.samples for outcome in outcomes)
                else "not one image could be read"
            )
        records = Records(files)
        config = self._run.config
        task, outcome = task_of(cell.stage), outcomes[0]
        known = expected_accuracy(config, task.accuracy, outcome.reference.get("recorded"))
        figures = task.measure(
            records,
            config,
            outcome.strides,
            population=not cell.hard,
            bound=known is not None,
        )
        if not cell.hard:
            figures.metrics.update(self._classes(cell))
        return records, figures

    def _classes(self, cell: Cell) -> dict[str, int | None]:
        """How many classes coverage asks for, the data have, and the cell's samples cover."""
        coverage = cell.mode == "coverage"
        asked = task_of(cell.stage).min_classes(self._run.config) if coverage else None
        available, covered = (
            len({label for sample in samples for label in sample.classes})
            for samples in (self._run.plan.population(cell), self._run.plan.samples(cell))
        )
        return {
            "classes_asked": asked,
            "classes_available": available,
            "classes_covered": covered,
            "classes_missing": None if asked is None else max(0, asked - covered),
        }


def judge_mode(run: GateRun, mode: str) -> list[CellResult]:
    """Run and judge every cell of a mode here and now, shard after shard, without pytest."""
    ledger = Ledger(run)
    shards = [shard for shard in run.plan.shards() if shard.cell.mode == mode]
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
    mixup = find_mixup(outcomes)
    return None if mixup is None else Verdict("breach", reason=mixup)


def _fingerprint(records: Records, labels: Sequence[str]) -> str:
    """SHA-256 over ids, files and labels of all samples: the same however they are sharded."""
    names = ("id", "content", *labels)
    digests = {name: hashlib.sha256() for name in names}
    for columns in records.chunks(*names):
        for name, column in zip(names, columns, strict=True):
            # Ids are as wide in memory as the longest of their shard.
            data = (
                "".join(map(ascii, column.tolist())).encode() if name == "id" else column.tobytes()
            )
            digests[name].update(data)
    return sha256_json([digest.hexdigest() for digest in digests.values()])
