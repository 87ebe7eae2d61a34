"""What a compiled model computes in, as the plugin's own graph says it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import openvino

# Convolutions and matrix products, by the names of the CPU and the GPU plugin.
_COMPUTE = {"convolution", "deconvolution", "fullyconnected", "gemm", "matmul"}
_TYPES = {"f32": "fp32", "f16": "fp16", "i8": "int8", "u8": "int8", "f64": "double"}


@dataclass(frozen=True)
class Computed:
    """Compute nodes of a compiled model by the type that they compute in.

    Attributes:
        by_type: as the plugin says it; of a node whose weights alone are in half precision it is
            that of the weights.
        half_weights: how many such nodes there are, whose arithmetic is float32.
    """

    by_type: dict[str, int]
    half_weights: int = 0

    def lowered_to(self, kinds: Collection[str]) -> dict[str, int]:
        """Nodes whose arithmetic is of these types, by type."""
        found = {kind: count for kind, count in self.by_type.items() if kind in kinds}
        if "fp16" in found:
            found["fp16"] -= self.half_weights
        return {kind: count for kind, count in found.items() if count}

    def facts(self, provider: str) -> dict[str, Any]:
        """`placement` and `precision` of the report: a model is compiled for one device."""
        total = sum(self.by_type.values())
        return {
            "placement": {
                "provider": provider,
                "compute_nodes": total,
                "compute_nodes_on_provider": total,
                "compute_nodes_by_provider": {provider: total},
                "other_ops_elsewhere": {},
            },
            "precision": {
                "compute_nodes": total,
                "compute_nodes_by_type": self.by_type,
                "weight_only_nodes": self.half_weights,
            },
        }


def read_computed(compiled: openvino.CompiledModel) -> Computed:
    """From the runtime model: the graph after the plugin's fusions, with the type of every node."""
    found: Counter[str] = Counter()
    half_weights = 0
    for node in compiled.get_runtime_model().get_ops():
        facts = node.get_rt_info()
        kind = _text(facts["layerType"]).lower().replace("_", "")
        if kind in _COMPUTE:
            precision = _text(facts["runtimePrecision"])
            found[_TYPES.get(precision, precision)] += 1
            # The kernel is named after the type of what comes in beside the weights.
            kernel = _text(facts["primitiveType"])
            half_weights += precision == "f16" and kernel.lower().endswith("_f32")
    return Computed(dict(sorted(found.items())), half_weights)


def _text(value: Any) -> str:
    return str(getattr(value, "value", value))
