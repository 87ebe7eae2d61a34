"""What nodes have, what cells ask of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pillsnap.config.cells import Cell
from pillsnap.config.selection import Selection
from pillsnap.config.settings import Compare, Config, Export, Paths
from pillsnap.gate.cluster.nodes import Node, cannot_serve, differences, lane_of

CONFIG = Config(paths=Paths(Path("exp")))
ON_GPU = replace(CONFIG, export=Export(compare=Compare(reference_device="cuda")))


def cell(engine: str, provider: str) -> Cell:
    return Cell("classification", engine, provider, "fp32", "smoke")


@pytest.mark.parametrize(
    ("engine", "provider", "has_gpus", "lane"),
    [
        ("onnx", "cpu", True, "cpu"),
        ("onnx", "cuda", False, "gpu"),
        ("onnx", "auto", False, "cpu"),
        ("onnx", "auto", True, "gpu"),
        ("tensorrt", "tensorrt", False, "gpu"),
        ("torch", "auto", True, "cpu"),
        ("torch", "cuda", True, "gpu"),
        ("openvino", "gpu", True, "cpu"),
    ],
)
def test_a_cell_of_cuda_needs_a_gpu(engine: str, provider: str, has_gpus: bool, lane: str) -> None:
    asked = cell(engine, provider)
    assert lane_of(asked, CONFIG, Selection(), has_gpus=has_gpus) == lane
    # The reference on a GPU needs one as well, where there is a reference.
    assert lane_of(asked, ON_GPU, Selection(), has_gpus=has_gpus) == "gpu"
    bundle = Selection(reference=Path("bundle"))
    assert lane_of(asked, ON_GPU, bundle, has_gpus=has_gpus) == lane


def test_every_worker_has_a_cpu_for_each_thread_and_gpus_come_first() -> None:
    node = Node("1", "a", cpus=8, gpus=2)
    assert node.seats(1, ("cpu",)) == {"gpu": 0, "cpu": 8}
    assert node.seats(1, ("gpu", "cpu")) == {"gpu": 2, "cpu": 6}
    assert node.seats(3, ("gpu", "cpu")) == {"gpu": 2, "cpu": 0}
    assert node.seats(16, ("gpu", "cpu")) == {"gpu": 0, "cpu": 0}
    assert not node.serves("cpu", 9) and node.serves("gpu", 8)
    assert not Node("2", "b", cpus=8, gpus=0).serves("gpu", 1)


def test_what_was_asked_and_what_there_is_are_said() -> None:
    nodes = [Node("1", "a", 8, 0), Node("2", "b", 0, 1)]
    text = str(cannot_serve(cell("onnx", "cuda"), "gpu", 2, nodes, {"2": "no module pillsnap"}))
    assert "where:    classification-onnx-cuda-fp32-smoke" in text
    assert "a: 8 CPUs, no GPU; b: no CPU, 1 GPU (not used: no module pillsnap)" in text
    assert "2 CPUs and 1 GPU" in text
    assert "no node is alive" in str(cannot_serve(cell("onnx", "cpu"), "cpu", 1, [], {}))


def test_other_versions_and_other_code_are_named() -> None:
    driver = {"python": "3.11.7", "packages": {"torch": "2.9", "timm": None}, "code": "a" * 64}
    assert differences(driver, driver) == []
    node = {"python": "3.11.9", "packages": {"torch": "2.8", "timm": "1.0"}, "code": "b" * 64}
    assert differences(driver, node) == [
        "Python 3.11.9 (driver 3.11.7)",
        "torch 2.8 (driver 2.9)",
        "timm 1.0 (driver none)",
        "pillsnap's code bbbbbbbbbbbb (driver aaaaaaaaaaaa)",
    ]
