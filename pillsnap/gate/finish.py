"""The end of a run on the controller: judge, decide the exit code, publish the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from pillsnap.compare.result import CellResult
from pillsnap.config.settings import Config
from pillsnap.core.checkout import Checkout
from pillsnap.core.errors import PillsnapError
from pillsnap.core.logrecords import open_log
from pillsnap.export.quantize import Tell
from pillsnap.gate.bundle import shard_name, write_manifest
from pillsnap.gate.ledger import Ledger
from pillsnap.gate.looking_back import look_back
from pillsnap.gate.looking_further import look_further
from pillsnap.gate.release import carry_out, decide_release
from pillsnap.gate.run import GateRun
from pillsnap.report import RunFacts, build_report, publish_report
from pillsnap.report.facts import Release
from pillsnap.report.keeping import prune_reports

log = open_log(__name__)

# pytest's own codes that the gate never overrides, and its own for an incomplete run.
INTERRUPTED, INTERNAL_ERROR, USAGE_ERROR = 2, 3, 4
INCOMPLETE = 3


@dataclass(frozen=True)
class Finished:
    """A judged run.

    Attributes:
        name: of the report's own file.
        path: where export_report.json lies; None when it could not be written.
        problem: why it could not.
        warnings: what was let out in another way than it should be, or not at all.
    """

    results: Sequence[CellResult]
    report: dict[str, Any]
    exit_code: int
    name: str
    path: Path | None
    problem: str | None = None
    warnings: Sequence[str] = ()

    def ending_with(self, exit_code: int, config: Config) -> Finished:
        """This run where the process ends with another exit code, such as that of a plugin that
        failed after the report was published: the report says so too."""
        if exit_code == self.exit_code:
            return self
        report = {**self.report, "gate": {**self.report["gate"], "exit_code": exit_code}}
        changed = replace(self, report=report, exit_code=exit_code)
        try:
            path = None if self.path is None else publish_report(report, config, self.name)
        except PillsnapError as error:
            return replace(changed, path=None, problem=str(error))
        return replace(changed, path=path)


def decide_exit_code(
    *,
    pytest_code: int,
    complete: bool,
    failed: bool,
    asked: bool,
    measured: bool,
    stopped: bool = False,
) -> int:
    """The one place where a run's exit code is made.

    Args:
        pytest_code: what pytest would exit with.
        complete: every collected shard reported.
        failed: a cell breached or is inconclusive, or something got worse that must not.
        asked: the user asked for the gate by name.
        measured: at least one cell was, and none that a gate must measure was skipped.
        stopped: by -x or --maxfail, after a test failed; under xdist pytest calls it interrupted.
    """
    if stopped and pytest_code in (1, INTERRUPTED):
        return 1
    if pytest_code in (INTERRUPTED, INTERNAL_ERROR, USAGE_ERROR):
        return pytest_code
    if not complete:
        return INCOMPLETE
    if failed or (asked and not measured):
        return 1
    return pytest_code


def finish(
    run: GateRun,
    ledger: Ledger,
    *,
    pytest_code: int,
    asked: bool,
    command: str,
    started: datetime,
    tag: str,
    checkout: Checkout,
    stopped: bool = False,
    cluster: Mapping[str, Any] | None = None,
    load: float | None = None,
    tell: Tell = log.info,
) -> Finished:
    """Judge every cell, decide the exit code and publish the report, also of a run that failed.

    What takes long is said by `tell` before it starts.

    Args:
        cluster: what is to be said of the nodes that shards ran on; None of this machine.
    """
    results = ledger.results()
    unmeasured = ledger.unmeasured() if asked else []
    complete = not ledger.missing and pytest_code not in (INTERRUPTED, INTERNAL_ERROR)
    stages = {result.cell.stage for result in results}
    modes = "+".join(dict.fromkeys(result.cell.mode for result in results)) or "none"
    name = f"{tag}-{modes}-{run.run_dir.name.rpartition('-')[2]}"
    facts = RunFacts(
        run=run.run_dir.name,
        started=started,
        load=load,
        command=command,
        checkout=checkout,
        threads=run.threads,
        exit_code=INCOMPLETE,  # until it is decided
        complete=complete,
        missing=ledger.missing,
        skipped=ledger.skipped(),
        unmeasured=[cell.id for cell in unmeasured],
        budgets=run.selection.budgets,
        data={stage: run.plan.data_sha256(stage) for stage in sorted(stages)},
        cluster=cluster,
    )
    back = look_back(run, build_report(results, run.config, facts))
    regressed = back is not None and back.regressed and run.selection.fail_on_regression
    code = decide_exit_code(
        pytest_code=pytest_code,
        complete=complete,
        failed=any(result.verdict.failed for result in results) or regressed,
        asked=asked,
        measured=not unmeasured and any(result.measured for result in results),
        stopped=stopped,
    )
    facts = replace(facts, exit_code=code, against=None if back is None else back.as_dict())

    def release_of(facts: RunFacts) -> Release:
        return decide_release(
            run.config,
            results,
            build_report(results, run.config, facts),
            name,
            skipped=ledger.unmeasured(),
            candidates=run.selection.candidates,
        )

    facts = replace(facts, release=release_of(facts))
    report = build_report(results, run.config, facts)
    if complete:
        _publish_bundle(run, results)
    try:
        path = publish_report(report, run.config, name)
    except PillsnapError as error:
        code = code if code in (INTERRUPTED, USAGE_ERROR) else INCOMPLETE
        facts = replace(facts, exit_code=code)
        return Finished(
            results, build_report(results, run.config, facts), code, name, None, str(error)
        )
    prune_reports(run.config.out_dir, run.config.export.reports_kept, f"{name}.json")
    # From here on the verdicts stand, whatever a diagnosis runs into. A run that was broken off is
    # not kept waiting for one.
    further, warnings = look_further(run, results, facts, tell) if complete else (facts, [])
    if further.complete != complete:
        further = replace(further, exit_code=INTERRUPTED)
        further = replace(further, release=release_of(further))
    if further != facts:
        report = build_report(results, run.config, further)
        try:
            publish_report(report, run.config, name)
        except PillsnapError as error:
            log.warning("the report stays without diagnosis and sensitivity: %s", error)
    warnings += carry_out(run.config, further.release)
    return Finished(results, report, further.exit_code, name, path, warnings=warnings)


def _publish_bundle(run: GateRun, results: Sequence[CellResult]) -> None:
    """Seal the bundle that --save-reference asks for, of every cell that was measured."""
    folder = run.selection.save_reference
    if folder is None:
        return
    shards = run.plan.shards()
    cells = {
        (result.cell.stage, result.cell.mode): {
            "stage": result.cell.stage,
            "mode": result.cell.mode,
            "shards": [shard_name(shard) for shard in shards if shard.cell == result.cell],
            "transform": result.outcomes[0].transform,
            "strides": result.outcomes[0].strides,
            "reference": result.outcomes[0].reference,
        }
        for result in results
        if result.measured and not result.cell.hard
    }
    try:
        log.info("golden bundle: %s", write_manifest(folder, cells.values()))
    except PillsnapError as error:
        log.warning("the golden bundle is not whole: %s", error)
