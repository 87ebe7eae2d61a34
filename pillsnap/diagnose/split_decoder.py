"""A detector's file cut in two behind its last convolutions: raw network and decoding."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from pillsnap.diagnose.taps import open_taps
from pillsnap.engines import Batch
from pillsnap.engines.onnxruntime.precision import element_types
from pillsnap.export.quantize.graph import decode_nodes

if TYPE_CHECKING:
    import onnx

Raw = list[NDArray[Any]]
"""The tensors at the cut, in the order in which the file makes them."""


class Halves:
    """Both halves of a file.

    Attributes:
        cut: names of the tensors between them; () where the file cannot be cut: a classifier, or
            of another structure than a YOLO detector's.
    """

    def __init__(self, model: onnx.ModelProto, threads: int) -> None:
        self._model = model
        self._threads = threads
        self._decoding = set(decode_nodes(model))
        made = [
            name
            for node in model.graph.node
            if node.name not in self._decoding
            for name in node.output
        ]
        used = {
            name for node in model.graph.node if node.name in self._decoding for name in node.input
        }
        self.cut = tuple(name for name in made if name in used) if self._decoding else ()

    def network(self) -> Callable[[Batch], Raw]:
        """The first half."""
        run = open_taps(self._model, self.cut, self._threads)
        return lambda batch: list(run(batch).values())

    def decoding(self) -> Callable[[Raw], Batch]:
        """The second half; its function takes what the first one gives."""
        import onnx
        from onnx import helper

        types = element_types(self._model)
        half = onnx.ModelProto()
        half.CopyFrom(self._model)
        graph = half.graph
        kept = [node for node in graph.node if node.name in self._decoding]
        del graph.node[:], graph.input[:], graph.value_info[:]
        graph.node.extend(kept)
        graph.input.extend(
            helper.make_tensor_value_info(name, types[name], None) for name in self.cut
        )
        output = graph.output[0].name
        run = open_taps(half, [output], self._threads)
        return lambda raw: run(dict(zip(self.cut, raw, strict=True)))[output]
