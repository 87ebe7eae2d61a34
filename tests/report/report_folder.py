"""A folder of reports that say what is judged by, and no more."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pillsnap.config.runtime import Runtime
from pillsnap.report.index import ReportIndex
from pillsnap.report.standing import Standing, find_standing

SHA = "0123456789abcdef" * 4
CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
SLOW = {"figure": "latency_p95_ms", "value": 50.0, "limit": 40.0, "where": "budget"}
DRIFT = {"figure": "prob_err_max", "value": 0.5, "limit": 1e-4, "where": ""}


class Reports:
    """A folder of reports, one a day; of each what is judged by, and no more."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._day = 0

    def add(self, verdict: str, mode: str = "smoke", **changes: Any) -> Path:
        """A report of the next day: of one cell, in which SHA ran on the CPU."""
        self._day += 1
        facts = {
            "day": self._day,
            "sha256": SHA,
            "provider": CPU,
            "stage": "classification",
            "precision": "fp32",
            "quantized": None,
            "config": "config",
            "data": "data",
            "checkpoint": "checkpoint",
            "content": mode,
            "complete": True,
            "path": None,
            "breaches": [DRIFT] if verdict == "breach" else [],
            "level": "ORT_ENABLE_ALL",
            "off": [],
            "weights": {},
            **changes,
        }
        name, stage = f"{facts['precision']}-{mode}", facts["stage"]
        provider = facts["provider"]
        cell = {
            "id": name,
            "stage": stage,
            "precision": facts["precision"],
            "verdict": verdict,
            "breaches": facts["breaches"],
            "quantized": facts["quantized"],
            "execution": None if provider is None else {"providers": [provider, CPU]},
        }
        report = {
            "cells": [cell],
            "environment": {
                "runtime": {
                    "graph_optimization_level": facts["level"],
                    "disabled_optimizers": facts["off"],
                }
            },
            "gate": {
                "complete": facts["complete"],
                "approvals": [
                    {"sha256": facts["sha256"], "path": str(path)}
                    for path in (facts["path"],)
                    if path is not None
                ],
            },
            "provenance": {
                "started_at_utc": f"2025-01-{facts['day']:02}T00:00:00Z",
                "config_sha256": facts["config"],
                "data_sha256": {stage: facts["data"]},
                "checkpoints_sha256": {stage: facts["checkpoint"]},
                "models_sha256": {name: facts["sha256"]},
                "weights_sha256": {name: facts["weights"]},
                "data_fingerprint": {name: facts["content"]},
            },
        }
        # By name the newest comes first.
        file = self.folder / self.name_of(self._day)
        file.write_text(json.dumps(report))
        return file

    @staticmethod
    def name_of(day: int) -> str:
        return f"{99 - day}.json"

    def standing(
        self,
        provider: str = CPU,
        stage: str = "classification",
        runtime: Runtime = Runtime(),  # noqa: B008
        weights: Mapping[str, str] | None = None,
    ) -> Standing:
        judged = ReportIndex(self.folder).judgements(SHA)
        return find_standing(judged, stage, provider, runtime, weights)

    @property
    def approved(self) -> bool:
        return self.standing().approved
