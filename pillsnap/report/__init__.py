"""export_report.json: built from the ledger's results, held to its models."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pillsnap.compare.hints import likely_causes
from pillsnap.compare.result import CellResult
from pillsnap.compare.tasks import task_names, task_of
from pillsnap.compare.verdict import certified
from pillsnap.config.cells import CLASSIFICATION, DETECTION
from pillsnap.config.settings import Config, config_sha256
from pillsnap.config.tolerances import Profiles
from pillsnap.core.files import write_atomic
from pillsnap.core.printable import printable_json
from pillsnap.report.facts import RunFacts, describe_cluster, describe_environment
from pillsnap.report.policy import count_data, notes, sample_policy, with_class_names

__all__ = ["SCHEMA_PATH", "RunFacts", "build_report", "publish_report"]

# What a stage says of its file.
_OF_FILE = ("opset", "ir_version", "min_onnxruntime", "dynamic_axes")
SCHEMA_VERSION = 1
SCHEMA_PATH = Path(__file__).with_name("report.schema.json")


def build_report(results: Sequence[CellResult], config: Config, facts: RunFacts) -> dict[str, Any]:
    """The whole report as plain builtins; numbers that are not finite are null and listed.

    Raises pydantic.ValidationError where its keys are not those of the models.
    """
    # At the end of a run: collection does without pydantic's models.
    from pillsnap.report.models import Repeated, Report

    stages = {stage: _stage(stage, results, config, facts) for stage in task_names()}
    breached = [result for result in results if result.verdict.failed]
    worst = max(results, key=lambda result: result.severity, default=None)
    report = {
        "schema_version": SCHEMA_VERSION,
        **(stages[CLASSIFICATION] or dict.fromkeys(Repeated.model_fields)),
        "stages": stages,
        "cells": [_cell(result, config.compare.tolerances, facts) for result in results],
        "gate": {
            "verdict": _overall(worst, facts),
            "exit_code": facts.exit_code,
            "complete": facts.complete,
            "missing": list(facts.missing),
            "skipped": facts.skipped,
            "unmeasured": list(facts.unmeasured),
            "breaches": [f"{result.cell.id}: {result.verdict.reason}" for result in breached],
            **facts.release.as_dict(),
        },
        "cluster": describe_cluster(facts.cluster, results),
        "against": None if facts.against is None else dict(facts.against),
        "environment": {
            **describe_environment(facts.threads, config.runtime),
            "load": facts.load,
        },
        "provenance": {
            "run": facts.run,
            # Two runs may begin within a second, and the newer one decides.
            "started_at_utc": f"{facts.started:%Y-%m-%dT%H:%M:%S.%fZ}",
            **facts.checkout.as_dict(),
            "command": facts.command,
            "config": str(config.source),
            "config_sha256": config_sha256(config),
            "checkpoints_sha256": _hashes(results, "reference", "checkpoint_sha256"),
            "models_sha256": _hashes(results, "candidate", "sha256"),
            "weights_sha256": {
                cell: found or {}
                for cell, found in _hashes(results, "candidate", "weights_sha256").items()
            },
            "data_sha256": dict(facts.data),
            "data_fingerprint": {result.cell.id: result.fingerprint for result in results},
            "seed": config.compare.seed,
        },
    }
    non_finite: dict[str, str] = {}
    finite: dict[str, Any] = _finite(report, "", non_finite)
    finite["non_finite"] = non_finite
    Report.model_validate(finite)
    return finite


def publish_report(report: dict[str, Any], config: Config, name: str) -> Path:
    """Write reports/<name>.json and export_report.json, each whole or not; returns the latter."""
    text = json.dumps(report, indent=2, allow_nan=False, ensure_ascii=False)
    # Names of files need not be Unicode, and readers of JSON refuse half a surrogate pair: what is
    # escaped is the name's text.
    text = re.sub("[\ud800-\udfff]", lambda found: rf"\\u{ord(found[0]):04x}", text)
    text = f"{printable_json(text)}\n"
    latest = config.out_dir / "export_report.json"
    for path in (config.out_dir / "reports" / f"{name}.json", latest):
        write_atomic(path, text.encode())
    return latest


def _overall(worst: CellResult | None, facts: RunFacts) -> str | None:
    """The verdict of the whole: where a cell that was asked for was not measured, no pass."""
    if worst is None:
        return None
    return "inconclusive" if facts.unmeasured and not worst.verdict.failed else worst.verdict.name


def _worst(results: Sequence[CellResult], stage: str) -> CellResult | None:
    """The stage's cell that fares worst, the first of several alike."""
    of_stage = [result for result in results if result.cell.stage == stage]
    return max(of_stage, key=lambda result: result.severity, default=None)


def _cell(result: CellResult, profiles: Profiles, facts: RunFacts) -> dict[str, Any]:
    tolerances = getattr(profiles, result.profile)
    metrics = with_class_names(result)
    return {
        "id": result.cell.id,
        **asdict(result.cell),
        "verdict": result.verdict.name,
        "profile": result.profile,
        "reason": result.verdict.reason or None,
        "metrics": metrics,
        "tolerances": asdict(tolerances),
        "certified": {
            figure: asdict(found) for figure, found in certified(result.metrics, tolerances).items()
        },
        "breaches": [asdict(breach) for breach in result.verdict.breaches],
        "looser_profile": result.verdict.looser,
        "likely_causes": (
            likely_causes(result.verdict.breaches, metrics)
            if result.verdict.name == "breach" and result.verdict.breaches
            else []
        ),
        "worst_samples": list(result.worst),
        "exactness": result.exactness,
        "quantized": result.quantized,
        "execution": result.execution,
        "layout": result.layout,
        "batching": result.batching,
        "graph": result.graph,
        "performance": result.performance,
        "accuracy": None if result.accuracy is None else asdict(result.accuracy),
        "unreadable": result.unreadable,
        "samples": result.measured,
        "seconds": round(result.seconds, 3),
        "diagnosis": facts.diagnoses.get(result.cell.id),
        "sensitivity": facts.sensitivities.get(result.cell.id),
    }


def _stage(
    stage: str, results: Sequence[CellResult], config: Config, facts: RunFacts
) -> dict[str, Any] | None:
    """The stage's part of the report; None for a stage that was not run."""
    worst, detection = _worst(results, stage), _worst(results, DETECTION)
    if worst is None:
        return None
    outcome = next((o for o in worst.outcomes if o.failure is None), None)
    reference = outcome.reference if outcome is not None else {}
    candidate = outcome.candidate if outcome is not None else {}
    task = task_of(stage)
    backbone, num_classes = task.model(config)
    box_metrics = detection.metrics if detection is not None else {}
    compare = config.compare
    return {
        "backbone": backbone,
        "num_classes": num_classes,
        "ckpt_path": reference.get("checkpoint"),
        "ckpt_entry": reference.get("checkpoint_entry") or None,
        "onnx_path": candidate.get("path"),
        # A file that was made elsewhere has empty ones.
        **{key: candidate.get(key) or None for key in ("exported_at_utc", "git_sha")},
        "input_shape": list(task.input_shape(config)),
        **{key: candidate.get(key) for key in _OF_FILE},
        "params_million": reference.get("params_million"),
        "providers": candidate.get("providers"),
        "postprocess": {"nms": asdict(config.nms), "applied_in": "python_common"},
        "compare": {
            "mode": worst.cell.mode,
            "sample_policy": sample_policy(worst.cell, compare),
            **{
                key: getattr(compare, key)
                for key in ("sample_count", "per_class_k", "min_classes", "max_total")
            },
            "sampled_classes": worst.metrics.get("classes_covered"),
            "sampled_images": worst.samples,
            **{
                key: worst.metrics.get(key)
                for key in ("mse_mean", "mse_p99", "top1_match_rate", "top1_mismatch_count")
            },
            "data": count_data(worst),
            "failed": worst.verdict.failed,
            "failure_reason": worst.verdict.reason if worst.verdict.failed else None,
            "deltas": {
                "map_0_5": box_metrics.get("map_0_5_delta"),
                "map_0_5_0_95": box_metrics.get("map_0_5_0_95_delta"),
            },
            "notes": [*notes(worst, outcome, config, facts.budgets), *facts.release.notes(stage)],
        },
    }


def _hashes(results: Sequence[CellResult], side: str, key: str) -> dict[str, Any]:
    found = {}
    for result in results:
        for outcome in result.outcomes:
            facts = getattr(outcome, side)
            if outcome.failure is None or facts:
                name = result.cell.stage if side == "reference" else result.cell.id
                found[name] = facts.get(key)
    return found


def _finite(value: Any, place: str, non_finite: dict[str, str]) -> Any:
    """Replace nan and infinities by None, noting each by its place."""
    if isinstance(value, dict):
        return {key: _finite(item, f"{place}.{key}", non_finite) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item, f"{place}[{index}]", non_finite) for index, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        non_finite[place.removeprefix(".")] = str(value)
        return None
    return value
