"""Which files --candidate takes, by the engines that are to run them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pillsnap.core.errors import ConfigError
from pillsnap.engines import find_entry
from pillsnap.plugin.candidates import read_candidates, require_engines


def test_a_folder_stands_for_the_graph_of_openvino_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "best_openvino_model"
    folder.mkdir()
    text = f"detection={folder}"
    graph = folder / "best.xml"
    graph.touch()
    with pytest.raises(ConfigError, match=r"\(no best\.bin beside it\)"):
        read_candidates([text])
    graph.with_suffix(".bin").touch()
    assert read_candidates([text]) == {"detection": graph}
    assert read_candidates([f"detection={graph}"]) == {"detection": graph}
    for name in ("other.xml", "other.onnx"):
        (folder / name).touch()
        with pytest.raises(ConfigError, match="no such candidate"):  # which of both?
            read_candidates([text])
        (folder / name).unlink()


def test_a_graph_of_openvino_is_refused_by_name_where_an_engine_does_not_open_it() -> None:
    found = {"detection": Path("/m/best.xml")}
    engines = {name: find_entry(name) for name in ("onnx", "tensorrt", "openvino", "torch")}
    require_engines(found, [engines["openvino"]])
    for names in (["onnx"], ["openvino", "tensorrt"]):
        with pytest.raises(ConfigError, match="does not open graphs of OpenVINO") as refused:
            require_engines(found, [engines[name] for name in names])
        assert "try:      use --engine openvino" in str(refused.value)
    with pytest.raises(ConfigError, match="compares the checkpoint with itself"):
        require_engines(found, [engines["torch"]])
