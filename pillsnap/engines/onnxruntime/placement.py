"""Where a session's compute went: the proof that what was asked for is what runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pillsnap.core.errors import EngineError
from pillsnap.core.printable import listed

if TYPE_CHECKING:
    import onnxruntime as ort

# Convolutions and matrix products in all the forms that exporters, quantisers and ONNX Runtime's
# own fusions give them. The other nodes are many and cheap, so a share of all nodes proves little.
_CONVOLUTIONS = "Conv ConvTranspose ConvInteger QLinearConv FusedConv NhwcConv NhwcFusedConv"
_PRODUCTS = (
    "Gemm QGemm FusedGemm MatMul MatMulInteger QLinearMatMul FusedMatMul MatMulIntegerToFloat "
    "DynamicQuantizeMatMul MatMulNBits Attention QAttention MultiHeadAttention"
)
COMPUTE = frozenset(f"{_CONVOLUTIONS} {_PRODUCTS}".split())

_LISTED = 5


@dataclass(frozen=True)
class Placement:
    """Which provider each node of a graph was given to, before fusion.

    Attributes:
        provider: the one in question, by ONNX Runtime's name.
        compute: compute nodes by the provider that has them.
        misplaced: names of those that another has.
        elsewhere: other nodes that another has, counted by op type.
    """

    provider: str
    compute: dict[str, int]
    misplaced: tuple[str, ...]
    elsewhere: dict[str, int]

    @property
    def total(self) -> int:
        return sum(self.compute.values())

    def as_dict(self) -> dict[str, Any]:
        return {
            "provider": self.provider,
            "compute_nodes": self.total,
            "compute_nodes_on_provider": self.compute.get(self.provider, 0),
            "compute_nodes_by_provider": dict(sorted(self.compute.items())),
            "other_ops_elsewhere": dict(sorted(self.elsewhere.items())),
        }


def read_placement(
    session: ort.InferenceSession, provider: str, dead: Collection[str] = ()
) -> Placement:
    """Where the nodes of a session, made with session.record_ep_graph_assignment_info, went, but
    for those of these names, which never run."""
    compute: Counter[str] = Counter()
    elsewhere: Counter[str] = Counter()
    misplaced = []
    for part in session.get_provider_graph_assignment_info():
        for node in part.get_nodes():
            if node.name in dead:
                continue
            if node.op_type in COMPUTE:
                compute[part.ep_name] += 1
                if part.ep_name != provider:
                    misplaced.append(f"{node.name or node.op_type} ({part.ep_name})")
            elif part.ep_name != provider:
                elsewhere[node.op_type] += 1
    return Placement(provider, dict(compute), tuple(misplaced), dict(elsewhere))


def require_all_compute(placement: Placement) -> None:
    """Refuse a session whose compute nodes are not all on the provider in question: an EngineError
    names those that are elsewhere."""
    on = placement.compute.get(placement.provider, 0)
    if on == placement.total:
        return
    raise EngineError(
        f"{placement.provider} was asked for and does not compute all of the model",
        where="ONNX Runtime session",
        got=f"{on} of {placement.total} compute nodes on it; elsewhere: "
        + listed(placement.misplaced, _LISTED),
        expected="every convolution and matrix product on it",
        hint="export at another opset or precision, or --provider auto, which may fall back",
    )
