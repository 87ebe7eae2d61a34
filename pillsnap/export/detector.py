"""Ultralytics detectors to ONNX, with the decoding of boxes in the graph."""

from __future__ import annotations

import tempfile
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pillsnap.config.settings import Config
from pillsnap.engines.torch.checkpoints import build_detection_model, count_params
from pillsnap.engines.torch.raw_boxes import decoded, has_queries
from pillsnap.engines.torch.yolo import architecture
from pillsnap.export.dynamo import export_dynamo
from pillsnap.export.exporters import Traced, exporting

if TYPE_CHECKING:
    import onnx
    import torch


def trace_detector(config: Config, checkpoint: Path) -> Traced:
    """Export a detector: `images` [N,3,H,W] to `detections` [N,boxes,6], both float32.

    Raises:
        CheckpointError: the checkpoint does not fit.
        ExportError: it cannot take export.input_shape, or has an operator the opset lacks.
    """
    loaded = build_detection_model(config, checkpoint)
    params_million = count_params(loaded.module)
    boxes: Any = loaded.module
    export = config.export
    if export.exporter == "dynamo":
        write = _by_dynamo
    else:
        write = _by_ultralytics if _writes_all(boxes) else _by_torch
    with exporting(checkpoint, export.opset, export.exporter):
        model = write(boxes, config)
        del model.metadata_props[:]
        _append_decoding(model, export.opset)
    name = architecture(boxes.model) or config.detection.network
    return Traced(model, params_million, name, loaded.strides, loaded.origin.entry)


def _writes_all(boxes: Any) -> bool:
    """Whether ultralytics' exporter writes all boxes of a network: of queries it makes a choice, by
    their scores, and of what a builder builds it knows nothing."""
    return boxes.decode is decoded and not has_queries(boxes.model.model[-1])


def _by_ultralytics(boxes: Any, config: Config) -> onnx.ModelProto:
    """`output0` [N,4+classes,boxes] by ultralytics' own exporter, from a model in memory whose path
    is a temporary folder, since it writes beside the .pt."""
    import onnx

    exporter: Any = import_module("ultralytics.engine.exporter")
    shape = config.export.input_shape.detection
    options = {
        "format": "onnx",
        "imgsz": [shape[2], shape[3]],
        "batch": shape[0],
        "opset": config.export.opset,
        "dynamic": config.export.dynamic_axes,
        "simplify": False,
        "device": "cpu",
        # None keeps the one-to-many head without NMS; False would choose the one-to-one head.
        "nms": None,
    }
    network = boxes.model
    with tempfile.TemporaryDirectory(prefix="pillsnap-") as folder:
        network.pt_path = str(Path(folder, "detector.pt"))
        network.task = "detect"
        network.args = None  # of training, with paths of the machine it ran on
        return onnx.load(exporter.Exporter(overrides=options)(model=network))


def _by_torch(boxes: Any, config: Config) -> onnx.ModelProto:
    """The same by torch's own exporter."""
    import onnx
    import torch

    free = _free_axes(config)
    with tempfile.TemporaryDirectory(prefix="pillsnap-") as folder, torch.inference_mode():
        file = Path(folder, "detector.onnx")
        torch.onnx.export(
            _decoded(boxes),
            (torch.zeros(config.export.input_shape.detection),),
            file,
            dynamo=False,
            opset_version=config.export.opset,
            input_names=["images"],
            output_names=["output0"],
            dynamic_axes={"images": free, "output0": {0: "batch", 2: "boxes"}} if free else None,
        )
        return onnx.load(file)


def _by_dynamo(boxes: Any, config: Config) -> onnx.ModelProto:
    """The same by torch's dynamo exporter, which ultralytics does not offer."""
    return export_dynamo(
        _decoded(boxes),
        config.export.input_shape.detection,
        opset=config.export.opset,
        input_name="images",
        output_name="output0",
        free=_free_axes(config),
    )


def _free_axes(config: Config) -> dict[int, str]:
    return {0: "batch", 2: "height", 3: "width"} if config.export.dynamic_axes else {}


def _decoded(boxes: Any) -> torch.nn.Module:
    """What rows_of made as the function that is exported, without the rows."""
    import torch

    class Boxes(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = boxes.model

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = boxes.decode(self.network, images)
            return found

    return Boxes().eval()


def _append_decoding(model: onnx.ModelProto, opset: int) -> None:
    """Turn `output0` [N,4+classes,boxes] (centre, size, scores) into `detections` [N,boxes,6]."""
    from onnx import TensorProto, helper

    graph = model.graph
    source = graph.output[0]
    dims = source.type.tensor_type.shape.dim
    batch, boxes = (dims[axis].dim_param or dims[axis].dim_value for axis in (0, 2))
    prefix = "/decode"

    def constant(name: str, kind: int, values: list[float] | list[int]) -> str:
        full_name = f"{prefix}/{name}"
        graph.initializer.append(helper.make_tensor(full_name, kind, [len(values)], values))
        return full_name

    def node(kind: str, name: str, inputs: list[str], **attributes: object) -> str:
        output = f"{prefix}/{name}"
        graph.node.append(
            helper.make_node(kind, inputs, [output], name=f"{output}/{kind}", **attributes)
        )
        return output

    def rows(name: str, start: int, end: int) -> str:
        bounds = [
            constant(f"{name}_start", TensorProto.INT64, [start]),
            constant(f"{name}_end", TensorProto.INT64, [end]),
            axis,
        ]
        return node("Slice", name, [source.name, *bounds])

    axis = constant("axis", TensorProto.INT64, [1])
    half = constant("half", TensorProto.FLOAT, [0.5])
    centre, size = rows("centre", 0, 2), rows("size", 2, 4)
    scores = rows("scores", 4, 2**31 - 1)
    reach = node("Mul", "reach", [size, half])
    low, high = node("Sub", "low", [centre, reach]), node("Add", "high", [centre, reach])
    # From opset 18 on, ReduceMax takes its axes as an input.
    best = (
        node("ReduceMax", "best", [scores, axis], keepdims=1)
        if opset >= 18
        else node("ReduceMax", "best", [scores], axes=[1], keepdims=1)
    )
    index = node("ArgMax", "index", [scores], axis=1, keepdims=1)
    class_id = node("Cast", "class_id", [index], to=TensorProto.FLOAT)
    columns = node("Concat", "columns", [low, high, best, class_id], axis=1)
    graph.node.append(
        helper.make_node(
            "Transpose", [columns], ["detections"], name=f"{prefix}/Transpose", perm=[0, 2, 1]
        )
    )
    free = isinstance(boxes, str)
    output = helper.make_tensor_value_info(
        "detections", TensorProto.FLOAT, [batch, "boxes" if free else boxes, 6]
    )
    del graph.output[:]
    graph.output.append(output)
