"""What a finished run lets out: the files it approves, latest_ links and pillsnap_pipeline.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pillsnap.compare.result import CellResult
from pillsnap.config.cells import Cell
from pillsnap.config.settings import Config
from pillsnap.core.errors import PillsnapError
from pillsnap.core.files import file_lock, point_latest
from pillsnap.core.hashes import sha256_file
from pillsnap.core.logrecords import collected_warnings, open_log
from pillsnap.engines import find_entry
from pillsnap.engines.torch.checkpoints import find_best_checkpoint
from pillsnap.infer.standalone import publish_standalone
from pillsnap.report.facts import Approval, Release
from pillsnap.report.index import ReportIndex
from pillsnap.report.judgements import judgements_of
from pillsnap.report.standing import find_standing

log = open_log(__name__)


def decide_release(
    config: Config,
    results: Sequence[CellResult],
    report: Mapping[str, Any],
    name: str,
    *,
    skipped: Sequence[Cell],
    candidates: Mapping[str, Path],
) -> Release:
    """Which files a run approves, and which exports latest_ may lead to: those that every float32
    cell of their stage has passed, and that no earlier report stands against.

    Args:
        report: the run's, of the results.
        name: of its file in config.out_dir/reports.
        skipped: cells that were not measured at all.
        candidates: files that were verified in place of an export.
    """
    approvals = _approvals(config, results, report, name)
    latest, kept = {}, {}
    for stage in dict.fromkeys(result.cell.stage for result in results if _has_file(result)):
        if stage in candidates:
            continue
        found = _passed(config, stage, results, skipped, approvals, report)
        if isinstance(found, Path):
            latest[stage] = found
        else:
            kept[stage] = found
    return Release(approvals, latest, kept)


def carry_out(config: Config, release: Release) -> list[str]:
    """Move the links, and write pillsnap_pipeline.py where every stage that was judged has passed.

    The verdict stands whatever becomes of them.

    Returns:
        what could not be written, or could only be written in another way.
    """
    if not release.latest:
        return []
    with collected_warnings() as found:
        try:
            with file_lock(config.out_dir / ".latest.lock"):
                for stage, path in release.latest.items():
                    point_latest(config.out_dir / f"latest_{stage}.onnx", path)
                # It runs ONNX Runtime.
                if not release.kept and find_entry(config.pipeline.engine).diagnosed:
                    publish_standalone(config)
        except Exception as error:  # also of the other stage's model, whatever it is
            log.warning("latest_ or pillsnap_pipeline.py could not be written: %s", error)
    return found


def _serves(result: CellResult, engine: str) -> bool:
    """Whether a cell's engine is this one, or ONNX Runtime as it is, under whichever name."""
    own, wanted = find_entry(result.cell.engine), find_entry(engine)
    return own is wanted or (own.diagnosed and wanted.diagnosed)


def _has_file(result: CellResult) -> bool:
    """Whether the cell's candidate is a file, or would have been one but for what failed."""
    return result.verdict.failed or any("path" in each.candidate for each in result.outcomes)


def _approvals(
    config: Config, results: Sequence[CellResult], report: Mapping[str, Any], name: str
) -> tuple[Approval, ...]:
    files = dict.fromkeys(
        (
            result.cell.stage,
            str(outcome.candidate["path"]),
            str(outcome.candidate["sha256"]),
            str(outcome.candidate["providers"][0]),
            tuple(sorted(outcome.candidate.get("weights_sha256", {}).items())),
        )
        for result in results
        for outcome in result.outcomes
        if {"path", "sha256"} <= outcome.candidate.keys() and outcome.candidate.get("providers")
    )
    found, index = [], ReportIndex(config.out_dir / "reports")
    # Its name is of this run alone: what is repeated is to give the same report.
    of_run = judgements_of(report, "this run")
    for stage, path, sha256, provider, weights in files:
        earlier = index.judgements(sha256, but=f"{name}.json")
        judged = [*earlier, *(each for each in of_run if each.sha256 == sha256)]
        standing = find_standing(judged, stage, provider, config.runtime, dict(weights))
        reason = None if standing.approved else standing.reason
        found.append(Approval(stage, path, sha256, provider, standing.approved, reason))
    return tuple(found)


def _passed(
    config: Config,
    stage: str,
    results: Sequence[CellResult],
    skipped: Sequence[Cell],
    approvals: Sequence[Approval],
    report: Mapping[str, Any],
) -> Path | str:
    """The stage's export, if the gate has passed it; else why it has not."""

    def of_export(cell: Cell) -> bool:
        exported = find_entry(cell.engine).takes_exports
        return cell.stage == stage and cell.precision == "fp32" and exported

    judged = [result for result in results if of_export(result.cell)]
    files = {
        (str(outcome.candidate["path"]), str(outcome.reference.get("checkpoint_sha256")))
        for result in judged
        for outcome in result.outcomes
        if "path" in outcome.candidate
    }
    if len(files) != 1:
        return "no float32 export of it was judged"
    if not any(_serves(result, config.pipeline.engine) for result in judged):
        engine = config.pipeline.engine
        return f"it was not judged on {engine}, which runs what this leads to (pipeline.engine)"
    ((path, checkpoint),) = files
    if not report["gate"]["complete"]:
        return "the run is incomplete"
    if lacking := [cell.id for cell in skipped if of_export(cell)]:
        return f"{lacking[0]}, not measured"
    for result in judged:
        if result.verdict.failed:
            return f"{result.cell.id}, {result.verdict.name}"
    for approval in approvals:
        if approval.path == path and approval.reason is not None:
            return approval.reason
    # Another run may have published the export of a newer one meanwhile.
    try:
        now = sha256_file(find_best_checkpoint(config, stage))
    except PillsnapError:
        now = "none"
    return Path(path) if checkpoint == now else "the checkpoint has changed since"
