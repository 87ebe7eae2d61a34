"""The torch module of a node, by the names and notes that exporters leave."""

from __future__ import annotations

import pytest
from onnx import helper

from pillsnap.diagnose.taps import module_path


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("/conv_stem/Conv", "conv_stem"),
        ("/model.0/conv/Conv", "model.0.conv"),
        ("/layer1/layer1.0/conv1/Conv", "layer1.0.conv1"),
        ("/layer2/layer2.0/downsample/downsample.1/Conv", "layer2.0.downsample.1"),
        ("/model.23/cv3.0/cv3.0.0/cv3.0.0.1/act/Mul", "model.23.cv3.0.0.1.act"),
        ("/model.2/m.0/m/m.1/cv1/conv/Conv", "model.2.m.0.m.1.cv1.conv"),
        ("/Softmax", ""),
        ("Constant_120", ""),
    ],
)
def test_of_torchscript(name: str, path: str) -> None:
    assert module_path(helper.make_node("Conv", ["x"], ["y"], name=name)) == path


@pytest.mark.parametrize(
    ("scopes", "path"),
    [
        ("['', 'conv1', 'conv1.0', 'conv2d']", "conv1.0"),
        ("['', 'network', 'network.model.0', 'network.model.0.conv', 'c']", "model.0.conv"),
        ("['', 'add']", ""),
        ("['add']", ""),
    ],
)
def test_of_dynamo(scopes: str, path: str) -> None:
    node = helper.make_node("Conv", ["x"], ["y"], name="node_Conv_1")
    node.metadata_props.add(key="pkg.torch.onnx.name_scopes", value=scopes)
    assert module_path(node) == path
