"""What a finished run lets out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pillsnap.config.settings import Config, Paths
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
