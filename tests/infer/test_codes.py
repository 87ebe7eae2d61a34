"""Which codes infer, the service and the shipped pipeline answer with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pillsnap.config.settings import Classification, Config, Data, Paths
from pillsnap.core.errors import DataError
from pillsnap.infer.models import Opened, make_pipeline, read_codes


def configured(folder: Path, class_map: dict[str, int]) -> Config:
    path = folder / "class_map.json"
    path.write_text(json.dumps(class_map))
    classification = Classification(num_classes=3)
    return Config(Paths(folder), data=Data(class_map=path), classification=classification)


@pytest.mark.parametrize("class_map", [{"K-1": 0, "K-2": 2, "K-3": 2}, {"K-1": 0, "K-2": 3}])
def test_a_map_that_the_gate_refuses_is_refused(tmp_path: Path, class_map: dict[str, int]) -> None:
    with pytest.raises(DataError, match=r"class_map\.json: K-[23]"):
        read_codes(configured(tmp_path, class_map))


def test_what_is_answered_for_a_class_without_a_code_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    opened = Opened(lambda batch: batch, {})
    make_pipeline(
        configured(tmp_path, {"K-1": 0, "K-2": 1, "K-3": 2}), {"classification": opened}, 1
    )
    config = configured(tmp_path, {"K-1": 0, "K-3": 2})
    make_pipeline(config, {"detection": opened}, 1)
    assert caplog.text == ""
    codes = make_pipeline(config, {"classification": opened}, 1).codes
    assert "no code for 1 of 3 classes: 1; infer and the service answer them with" in caplog.text
    found = codes.describe(1)
    assert (found["code"], found["edi_code"]) == (None, None)
    assert found["edi_reason"] == "class_map has no code for class 1"
