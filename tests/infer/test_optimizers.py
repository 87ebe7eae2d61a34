"""The shipped pipeline runs its models as they were verified."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pillsnap.config.runtime import Runtime
from pillsnap.core.hashes import sha256_file
from pillsnap.engines.onnxruntime.feeding import run_session
from pillsnap.engines.onnxruntime.sessions import open_session
from pillsnap.infer import standalone_main
from tests.engines.padded import image, save_padded


def test_an_optimizer_that_is_off_is_off_where_it_ships(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_padded(tmp_path / "padded.onnx")
    right = open_session(path, "cpu", 1, Runtime("ORT_DISABLE_ALL")).run(image())
    for level, names, wrong in (
        ("ORT_ENABLE_ALL", [], True),
        ("ORT_ENABLE_ALL", ["Pad_Fusion"], False),
        ("ORT_DISABLE_ALL", [], False),
    ):
        frozen = {"graph_optimization_level": level, "disabled_optimizers": names}
        monkeypatch.setattr(standalone_main, "FROZEN", frozen)
        how = (path, sha256_file(path), ["CPUExecutionProvider"], 1)
        (found,) = run_session(standalone_main._open_session(*how), image())
        assert bool(np.abs(found - right).max() > 0.1) is wrong
