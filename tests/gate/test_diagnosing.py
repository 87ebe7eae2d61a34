"""Which cells are diagnosed; what a diagnosis finds is tests/models' and tests/e2e's."""

from __future__ import annotations

from pathlib import Path

import pytest

from pillsnap.compare.outcome import Outcome
from pillsnap.compare.result import CellResult
from pillsnap.compare.verdict import Verdict
from pillsnap.config.cells import Cell
from pillsnap.config.selection import Selection
from pillsnap.config.settings import Config, Paths
from pillsnap.gate.diagnosing import diagnose_cells
from pillsnap.gate.run import GateRun

SESSION = {"path": "model.onnx", "providers": [], "provider_options": {}, "placement": {}}


@pytest.mark.parametrize(
    ("engine", "candidate", "diagnosed"),
    [("onnx", SESSION, True), ("tensorrt", SESSION, True), ("torch", {"providers": []}, False)],
)
def test_every_session_of_onnx_runtime_is_diagnosed(
    tmp_path: Path, engine: str, candidate: dict[str, object], diagnosed: bool
) -> None:
    config = Config(Paths(tmp_path))
    run = GateRun(config, Selection(), threads=1, run_dir=tmp_path / "runs" / "tag")
    cell = Cell("classification", engine, "cpu", "fp32", "smoke")
    outcome = Outcome(cell.id, samples=1, candidate=candidate)
    result = CellResult(cell, Verdict("breach", reason="it drifted"), "strict", (outcome,))
    found = diagnose_cells(run, [result])
    assert list(found) == ([cell.id] if diagnosed else [])
    # There are no data to go by, which the note says.
    assert all("no validation data" in note["problems"][0] for note in found.values())
