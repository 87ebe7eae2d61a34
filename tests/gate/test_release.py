"""What a finished run lets out."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from pillsnap.compare.outcome import Outcome
from pillsnap.compare.result import CellResult
from pillsnap.compare.verdict import Verdict
from pillsnap.config.cells import Cell
from pillsnap.config.settings import Config, Paths, PipelineSettings
from pillsnap.gate import release
from pillsnap.report.facts import Release


@pytest.mark.parametrize(
    ("kept", "written"), [({}, True), ({"classification": "its cell, breach"}, False)]
)
def test_the_pipeline_in_one_file_is_written_where_every_stage_has_passed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: dict[str, str], written: bool
) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(release, "publish_standalone", calls.append)
    config = Config(paths=Paths(tmp_path))
    config.out_dir.mkdir()
    export = config.out_dir / "detection-tag.onnx"
    export.touch()
    assert release.carry_out(config, Release((), {"detection": export}, kept)) == []
    assert (config.out_dir / "latest_detection.onnx").resolve() == export.resolve()
    assert calls == [config] * written
    on_openvino = replace(config, pipeline=replace(config.pipeline, engine="openvino"))
    assert release.carry_out(on_openvino, Release((), {"detection": export}, kept)) == []
    assert calls == [config] * written  # which it does not run


def test_whatever_lies_beside_what_is_let_out_fails_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other stage's latest export, say, which may be any file."""

    def odd(config: Config) -> None:
        raise IndexError("an input without shape")

    monkeypatch.setattr(release, "publish_standalone", odd)
    export = tmp_path / "export" / "detection-tag.onnx"
    export.parent.mkdir()
    export.touch()
    found = release.carry_out(Config(paths=Paths(tmp_path)), Release((), {"detection": export}, {}))
    assert found[0].endswith("pillsnap_pipeline.py could not be written: an input without shape")


CELL = Cell("classification", "onnx", "cpu", "fp32", "smoke")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, None),
        ({"complete": False}, "the run is incomplete"),
        ({"skipped": [replace(CELL, provider="cuda")]}, "classification-onnx-cuda-fp32-smoke, not"),
        ({"skipped": [replace(CELL, precision="int8"), replace(CELL, stage="detection")]}, None),
        ({"verdict": "inconclusive"}, "classification-onnx-cpu-fp32-smoke, inconclusive"),
        ({"checkpoint": b"another"}, "the checkpoint has changed since"),
        ({"engine": "openvino"}, None),
        ({"engine": "openvino", "serves": "onnx"}, "it was not judged on onnx, which runs"),
        ({"engine": "onnx", "serves": "openvino"}, "it was not judged on openvino, which runs"),
        ({"engine": "tensorrt", "serves": "onnx"}, None),
    ],
)
def test_latest_moves_when_the_whole_run_has_passed_the_export(
    tmp_path: Path, changes: dict[str, Any], why: str | None
) -> None:
    facts = {"complete": True, "skipped": [], "verdict": "equivalent", "checkpoint": b"x"} | changes
    engine = facts.get("engine", "onnx")
    checkpoint = tmp_path / "checkpoints/classification_best.pt"
    checkpoint.parent.mkdir()
    checkpoint.write_bytes(b"x")
    export = tmp_path / "classification-tag.onnx"
    reference = {"checkpoint_sha256": sha256(facts["checkpoint"]).hexdigest()}
    outcome = Outcome("s", candidate={"path": str(export)}, reference=reference)
    result = CellResult(
        replace(CELL, engine=engine), Verdict(facts["verdict"]), "strict", (outcome,)
    )
    report = {"gate": {"complete": facts["complete"]}, "provenance": {}, "cells": []}
    found = release.decide_release(
        Config(Paths(tmp_path), pipeline=PipelineSettings(engine=facts.get("serves", engine))),
        [result],
        report,
        "name",
        skipped=facts["skipped"],
        candidates={},
    )
    assert found.latest == ({"classification": export} if why is None else {})
    assert why is None or found.kept["classification"].startswith(why)
