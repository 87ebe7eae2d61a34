"""How two ONNX graphs differ: in operators, attributes, constants and how they are wired.

Names, the order of nodes, notes and metadata say nothing of what a graph computes: they are left
out, and hint at most at which node of one graph is which of the other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pillsnap.export.graphs.constants import Constant
from pillsnap.export.graphs.nodes import Node, Nodes, Value, read_nodes
from pillsnap.export.graphs.pairing import pair_nodes

if TYPE_CHECKING:
    import onnx

Kind = Literal["added", "missing", "operator", "attribute", "initializer", "wiring", "interface"]

# Characters of a value that a sentence shows.
_SHOWN = 60


@dataclass(frozen=True)
class Difference:
    """One way in which a graph is another than the one that is wanted.

    Attributes:
        node: operator and name of the node concerned; "" for the graph itself.
        text: in words, without the node.
    """

    kind: Kind
    node: str
    text: str

    def __str__(self) -> str:
        return f"{self.node} {self.text}".strip()

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def find_differences(wanted: onnx.ModelProto, found: onnx.ModelProto) -> list[Difference]:
    """Every difference, in the order in which the found graph computes; [] for graphs that are
    equal to the bit but for names, order and notes.

    Args:
        wanted, found: with their weights in them (read_with_weights).
    """
    ours, theirs = read_nodes(wanted), read_nodes(found)
    return [] if ours.digest == theirs.digest else list(_differences(ours, theirs))


def _differences(wanted: Nodes, found: Nodes) -> Iterator[Difference]:
    yield from _of_interface(wanted, found)
    pairs = pair_nodes(wanted.nodes, found.nodes)
    partner = {theirs: ours for ours, theirs in pairs.items()}
    comparison = _Comparison(partner | pairs)
    # A node that is missing stands where the one before it is found.
    lacking: dict[Node | None, list[Node]] = {}
    before: Node | None = None
    for node in wanted.nodes:
        if node in pairs:
            before = pairs[node]
        else:
            lacking.setdefault(before, []).append(node)
    for place in (None, *found.nodes):
        if place in partner:
            yield from comparison.of_nodes(partner[place], place)
        elif place is not None:
            yield Difference("added", str(place), f"added behind {_source(place)}")
        for node in lacking.get(place, ()):
            yield Difference("missing", str(node), f"missing behind {_source(node)}")
    ends = zip(wanted.outputs, found.outputs, strict=False)
    for slot, ((_, end), (_, other)) in enumerate(ends):
        yield from comparison.of_values(end, other, "", f"output {slot}")
    yield from _of_unused(wanted, found)


def _of_interface(wanted: Nodes, found: Nodes) -> Iterator[Difference]:
    forms = [form for form, _ in wanted.outputs], [form for form, _ in found.outputs]
    for what, ours, theirs in (
        ("inputs", list(wanted.inputs), list(found.inputs)),
        ("outputs", *forms),
        ("opsets", dict(wanted.opsets), dict(found.opsets)),
    ):
        if ours != theirs:
            yield Difference("interface", "", f"{what} {_shown(theirs)} in place of {_shown(ours)}")


def _of_unused(wanted: Nodes, found: Nodes) -> Iterator[Difference]:
    ours, theirs = (
        Counter(constant.digest for constant in side.unused) for side in (wanted, found)
    )
    for side, extra, what in (
        (found, theirs - ours, "added, and nothing reads it"),
        (wanted, ours - theirs, "missing, which nothing reads"),
    ):
        for constant in side.unused:
            if extra[constant.digest] > 0:
                extra[constant.digest] -= 1
                yield Difference("initializer", "", f"{_named(constant)} {what}")


@dataclass(frozen=True)
class _Comparison:
    """Compares what belongs together: `partner` has the wanted node by the found one, and the
    other way round."""

    partner: dict[Node, Node]

    def of_nodes(self, wanted: Node, found: Node) -> Iterator[Difference]:
        if wanted.digest == found.digest:
            return
        node = str(found)
        if wanted.operator != found.operator:
            yield Difference("operator", node, f"in place of {wanted.operator}")
        for name in dict.fromkeys([*wanted.attributes, *found.attributes]):
            ours, theirs = (side.attributes.get(name, "none") for side in (wanted, found))
            if ours != theirs:
                text = f"{name} {_shown(theirs)} in place of {_shown(ours)}"
                yield Difference("attribute", node, text)
        if wanted.outputs != found.outputs:
            text = f"{sum(found.outputs)} outputs in place of {sum(wanted.outputs)}"
            yield Difference("wiring", node, text)
        if len(wanted.inputs) != len(found.inputs):
            text = f"{len(found.inputs)} inputs in place of {len(wanted.inputs)}"
            yield Difference("wiring", node, text)
        for slot, (one, other) in enumerate(zip(wanted.inputs, found.inputs, strict=False)):
            yield from self.of_values(one, other, node, f"input {slot}")

    def of_values(self, wanted: Value, found: Value, node: str, place: str) -> Iterator[Difference]:
        """Of what an input, or an output of the graph, comes from; a node that one side has alone
        is named elsewhere."""
        if wanted.constant is not None and found.constant is not None:
            if wanted.digest != found.digest:
                yield Difference("initializer", node, _changed(wanted.constant, found.constant))
        elif not self._belong(wanted, found):
            text = f"{place} is {_of(found)} in place of {_of(wanted)}"
            yield Difference("wiring", node, text)

    def _belong(self, wanted: Value, found: Value) -> bool:
        ends = [value.node for value in (wanted, found) if value.node is not None]
        if not ends:
            return wanted.digest == found.digest
        if any(node not in self.partner for node in ends):
            return True
        same = wanted.node is not None and self.partner[wanted.node] is found.node
        return same and wanted.slot == found.slot


def _changed(wanted: Constant, found: Constant) -> str:
    """Such as "initializer fc.weight float [24, 64]: 3 of 1,536 elements differ, by 0.001 at most";
    elements are held against each other by their bits."""
    if wanted.form != found.form:
        return f"{_named(found)} in place of {wanted.form}"
    ours, theirs = (np.atleast_1d(side.values).ravel() for side in (wanted, found))
    if ours.dtype == object or ours.dtype == bool:
        differs, by = ours != theirs, ""
    else:
        bits = f"u{ours.dtype.itemsize}" if ours.dtype.itemsize <= 8 else "u8"
        differs = (ours.view(bits) != theirs.view(bits)).reshape(len(ours), -1).any(axis=1)
        with np.errstate(all="ignore"):
            wide = np.complex128 if np.iscomplexobj(ours) else np.float64
            apart = np.abs(theirs[differs].astype(wide) - ours[differs].astype(wide))
            by = f", by {apart.max():.3g} at most"
    return f"{_named(found)}: {int(differs.sum()):,} of {len(ours):,} elements differ{by}"


def _named(constant: Constant) -> str:
    return f"initializer {constant.name[:100]} {constant.form}"


def _of(value: Value) -> str:
    """Where a tensor comes from."""
    if value.constant is not None:
        return _named(value.constant)
    if value.node is not None:
        return str(value.node) + (f" output {value.slot}" if value.slot else "")
    return "nothing" if value.slot < 0 else f"the graph's input {value.slot}"


def _source(node: Node) -> str:
    """What a node is fed first that is computed or fed."""
    fed = [value for value in node.inputs if value.constant is None]
    return _of(fed[0]) if fed else "nothing"


def _shown(value: object) -> str:
    text = str(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
