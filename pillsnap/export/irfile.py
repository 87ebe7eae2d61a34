"""What a graph of OpenVINO's own is: an .xml with its weights in a .bin, and what metadata.yaml
beside it says, as `yolo export format=openvino` writes them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import yaml  # type: ignore[import-untyped]

from pillsnap.core.alternatives import OPENVINO
from pillsnap.core.errors import EngineError
from pillsnap.core.modelfiles import model_files
from pillsnap.core.placeholders import read_placeholder
from pillsnap.core.regularfiles import open_regular
from pillsnap.engines.openvino.reading import read_ir, read_model, why
from pillsnap.export.onnxfile import Exported, origin_told, params_million
from pillsnap.export.safety import require_size
from pillsnap.export.stages import PREFIX, Shape, Signature, require_stage, stage_in
from pillsnap.export.suppression import Suppression, decide

if TYPE_CHECKING:
    import openvino

_METADATA = "metadata.yaml"

# No exporter writes more, however many classes it names.
_LONGEST = 1 << 20


def describe_ir(path: Path, stage: str) -> Exported:
    """Read what an .xml is, whoever wrote it; EngineError where it or its .bin is missing, damaged,
    or not a model of that stage, EngineMissing without OpenVINO."""
    model, _, entries = read = _read(path)
    require_stage(_signature(model, entries), stage, path)
    return _exported(path, *read)


def read_ir_file(path: Path, checkpoint: Path | None = None, *, reused: bool = False) -> Exported:
    """The same, whatever it is for."""
    return replace(_exported(path, *_read(path)), checkpoint=checkpoint, reused=reused)


def _exported(path: Path, model: openvino.Model, sha256: str, entries: dict[str, str]) -> Exported:
    sizes = (node.data.size for node in model.get_ops() if node.get_type_name() == "Constant")
    return Exported(
        path=path.resolve(),
        sha256=sha256,
        opset=0,
        dynamic_axes=_shape(model.input(0))[:1] == (None,),
        params_million=params_million(entries) or round(sum(sizes) / 1e6, 6),
        **origin_told(entries),
        checkpoint=None,
        metadata=entries,
        reused=False,
        suppression=_suppression(model),
    )


def stage_of_ir(path: Path) -> str:
    """detection, classification or neither, see stage_in; errors are describe_ir's."""
    model, _, entries = _read(path)
    return stage_in(_signature(model, entries))


def _read(path: Path) -> tuple[openvino.Model, str, dict[str, str]]:
    """The graph, the SHA-256 of both files, and the metadata."""
    OPENVINO.require()
    import openvino

    for each in model_files(path):
        require_size(each)
    content = read_ir(path)
    try:
        model = read_model(openvino.Core(), content)
    except RuntimeError as error:
        standing = next(filter(None, map(read_placeholder, model_files(path))), None)
        raise EngineError(
            "this is not a whole model of OpenVINO: the files are damaged or of another kind",
            where=path,
            got=why(error) if standing is None else standing.kind,
            hint="copy or export them again" if standing is None else standing.hint,
        ) from error
    # Beside one of pillsnap's own lie others.
    return model, content.sha256, _own(model) or _metadata(path.with_name(_METADATA))


def _own(model: openvino.Model) -> dict[str, str]:
    """What pillsnap has written into a graph."""
    place = [PREFIX.rstrip(".")]
    found = model.get_rt_info(place).value if model.has_rt_info(place) else {}
    if not isinstance(found, dict):
        return {}
    return {f"{PREFIX}{key}": str(getattr(value, "value", value)) for key, value in found.items()}


def _metadata(path: Path) -> dict[str, str]:
    """Values as texts, as an .onnx of the same exporter has them; none where it is no such file."""
    try:
        with open_regular(path) as file:
            found = yaml.safe_load(file.read(_LONGEST))
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        return {}
    return {str(key): str(value) for key, value in found.items()} if type(found) is dict else {}


def _signature(model: openvino.Model, entries: dict[str, str]) -> Signature:
    outputs = {
        output.any_name if output.names else f"output {index}": _shape(output)
        for index, output in enumerate(model.outputs)
    }
    return Signature(_shape(model.input(0)), outputs, entries)


def _shape(port: openvino.Output) -> Shape:
    if port.partial_shape.rank.is_dynamic:
        return ()
    return tuple(size.get_length() if size.is_static else None for size in port.partial_shape)


def _suppression(model: openvino.Model) -> Suppression | None:
    """The NMS among a model's operators; None of one without."""
    nodes = [n for n in model.get_ops() if n.get_type_name() in ("NonMaxSuppression", "NMSRotated")]
    if not nodes:
        return None
    compared = (n for n in model.get_ops() if n.get_type_name() == "Greater")
    return decide(
        {_number(node, 3) for node in nodes},
        {_number(node, 4) for node in nodes},
        (_number(node, 1) for node in compared),
    )


def _number(node: openvino.Node, index: int) -> float | None:
    """A node's input, where it is one number that the graph holds, as it is or cast."""
    if index >= node.get_input_size():
        return None
    found = node.input_value(index).get_node()
    for given in _upwards(found):
        if given.get_type_name() == "Constant" and given.data.size == 1:
            return float(given.data.reshape(-1)[0])
    return None


def _upwards(node: openvino.Node) -> Iterator[openvino.Node]:
    """A node, and what it takes over from before it."""
    yield node
    while node.get_type_name() in ("Convert", "ConvertLike", "Reshape", "Squeeze", "Unsqueeze"):
        node = node.input_value(0).get_node()
        yield node
