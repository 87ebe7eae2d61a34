"""An ONNX graph by what it computes, whatever its names, the order of its nodes and its notes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pillsnap.engines.onnxruntime.precision import captured
from pillsnap.export.graphs.constants import Constant, digest_of, of_attribute, of_tensor
from pillsnap.export.reading import inputs_of

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor by what it comes from: a constant, a node, or neither for what is fed.

    Attributes:
        digest: of all that it is computed from, down to the bits of constants.
        structure: the same with constants by type and shape.
        slot: number of the node's output, or of the graph's input; -1 for what is left out.
    """

    digest: str
    structure: str
    constant: Constant | None = None
    node: Node | None = None
    slot: int = 0


@dataclass(frozen=True, eq=False)
class Node:
    """A node and what it is computed from.

    Attributes:
        name: as it stands in the file, else that of its first output.
        operator: with its domain, unless that is ONNX's own.
        attributes: in words that say all of each; of bodies and long tensors a digest.
        inputs: without those that are left out at the end.
        outputs: which of them are there.
        digest, structure: see Value.
    """

    name: str
    operator: str
    attributes: Mapping[str, str]
    inputs: tuple[Value, ...]
    outputs: tuple[bool, ...]
    digest: str
    structure: str

    def __str__(self) -> str:
        return f"{self.operator} {self.name[:100]}"


@dataclass(frozen=True)
class Nodes:
    """A graph.

    Attributes:
        nodes: each behind what it needs, in an order that the structure alone decides: from the
            outputs backwards, input by input; last those that lead to no output.
        inputs: what is fed, by type and shape.
        outputs: the same, with their values.
        unused: constants that nothing reads.
        opsets: version by domain.
    """

    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    outputs: tuple[tuple[str, Value], ...]
    unused: tuple[Constant, ...]
    opsets: Mapping[str, int]

    @property
    def digest(self) -> str:
        """Equal for graphs that are equal but for names, order and notes."""
        return digest_of(
            self.inputs,
            [(form, value.digest) for form, value in self.outputs],
            sorted(node.digest for node in self.nodes),
            sorted(constant.digest for constant in self.unused),
            sorted(self.opsets.items()),
        )


def read_nodes(model: onnx.ModelProto) -> Nodes:
    """The graph of a model, its own functions inlined. Weights in other files must have been read
    (read_with_weights)."""
    from onnx import inliner

    whole = inliner.inline_local_functions(model) if model.functions else model
    reader = _Reader(whole.graph)
    forms = (_form(each) for each in whole.graph.output)
    return Nodes(
        tuple(reader.nodes),
        tuple(_form(each) for each in inputs_of(whole)),
        tuple(zip(forms, reader.outputs, strict=True)),
        tuple(reader.unused),
        {entry.domain or "ai.onnx": entry.version for entry in whole.opset_import},
    )


def _form(value: onnx.ValueInfoProto) -> str:
    """Type and shape of an input or output; free axes have no name here."""
    from onnx import TensorProto

    kind = TensorProto.DataType.Name(value.type.tensor_type.elem_type).lower()
    dims = value.type.tensor_type.shape.dim
    sizes = (str(dim.dim_value) if dim.HasField("dim_value") else "free" for dim in dims)
    return f"{kind} [{', '.join(sizes)}]"


class _Reader:
    """Reads a graph, or the body of a node, where `around` has the tensors outside it by name.

    Attributes:
        nodes, unused: see Nodes.
        outputs: values of the graph's outputs.
    """

    def __init__(
        self, graph: onnx.GraphProto, around: Mapping[str, Value] | None = None, depth: int = 0
    ) -> None:
        self.nodes: list[Node] = []
        self._depth = depth
        self._values = dict(around or {})
        self._constants = {each.name: of_tensor(each, each.name) for each in graph.initializer}
        self._makers: dict[str, onnx.NodeProto] = {}
        for node in graph.node:
            if node.op_type == "Constant" and node.attribute[0].name != "sparse_value":
                self._constants[node.output[0]] = of_attribute(node.attribute[0], node.output[0])
            else:
                self._makers |= dict.fromkeys(filter(None, node.output), node)
        fed = (each.name for each in graph.input if each.name not in self._constants)
        for slot, name in enumerate(fed):
            digest = digest_of("input", depth, slot)
            self._values[name] = Value(digest, digest, slot=slot)
        self._used = {each.name for each in graph.output}
        self.outputs = [self._value(each.name) for each in graph.output]
        for name in self._makers:  # those that lead to no output
            self._value(name)
        self.unused = [each for name, each in self._constants.items() if name not in self._used]

    def contents(self, which: str) -> tuple[list[str], list[str]]:
        """Digests, or structures, of what a body gives and of all that it computes."""
        made = sorted(getattr(node, which) for node in self.nodes)
        return [getattr(value, which) for value in self.outputs], made

    def _value(self, name: str) -> Value:
        """The tensor of that name, after all that it needs: not by recursion, since graphs are
        deeper than Python's stack."""
        todo, entered = [name], set()
        while todo:
            top = todo[-1]
            maker = self._makers.get(top)
            if top in self._values:
                todo.pop()
            elif maker is None:
                self._values[top] = _known(self._constants.get(top))
            elif top in entered:
                self._make(maker)
            else:
                entered.add(top)
                todo += reversed(self._needs(maker))
        return self._values[name]

    def _needs(self, node: onnx.NodeProto) -> list[str]:
        around = (self._values, self._constants, self._makers)
        inner = (name for name in captured(node) if any(name in each for each in around))
        return list(dict.fromkeys([*filter(None, node.input), *inner]))

    def _make(self, node: onnx.NodeProto) -> None:
        self._used.update(self._needs(node))
        nothing = _known(None)
        inputs = [self._values.get(name, nothing) for name in node.input]
        while inputs and inputs[-1].digest == nothing.digest:
            inputs.pop()
        found = {each.name: self._attribute(each) for each in node.attribute}
        operator = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
        outputs = tuple(map(bool, node.output))
        digest, structure = (
            digest_of(
                operator,
                sorted((key, texts[index]) for key, texts in found.items()),
                [getattr(value, which) for value in inputs],
                outputs,
            )
            for index, which in enumerate(("digest", "structure"))
        )
        name = node.name or next(filter(None, node.output), "")
        attributes = {key: text for key, (text, _) in sorted(found.items())}
        made = Node(name, operator, attributes, tuple(inputs), outputs, digest, structure)
        self.nodes.append(made)
        for slot, output in enumerate(node.output):
            if output:
                places = digest_of(digest, slot), digest_of(structure, slot)
                self._values[output] = Value(*places, node=made, slot=slot)

    def _attribute(self, attribute: onnx.AttributeProto) -> tuple[str, str]:
        """In words that say all of it, and the same without what is in a body's constants."""
        from onnx import AttributeProto, helper

        kinds = AttributeProto
        bodies = [*attribute.graphs, *([attribute.g] if attribute.type == kinds.GRAPH else [])]
        if bodies:
            read = [_Reader(body, self._values, self._depth + 1) for body in bodies]
            digest, structure = (
                digest_of([each.contents(which) for each in read])
                for which in ("digest", "structure")
            )
            return f"a graph {digest}", f"a graph {structure}"
        if attribute.type in (kinds.FLOAT, kinds.FLOATS):
            values = [attribute.f] if attribute.type == kinds.FLOAT else attribute.floats
            text = ", ".join(f"{value:.9g}" for value in values)  # tells all of float32 apart
        elif attribute.type in (kinds.INT, kinds.INTS, kinds.STRING, kinds.STRINGS):
            text = str(helper.get_attribute_value(attribute))
        elif attribute.type == kinds.TENSOR:
            tensor = of_tensor(attribute.t, "")
            text = f"{tensor.form} {tensor.digest}"
        else:
            bare = type(attribute)()
            bare.CopyFrom(attribute)
            bare.ClearField("doc_string")
            text = digest_of(bare.SerializeToString(deterministic=True))
        return text, text


def _known(constant: Constant | None) -> Value:
    """A constant as a value; None stands for what is left out, or made by nobody."""
    if constant is None:
        nothing = digest_of("nothing")
        return Value(nothing, nothing, slot=-1)
    return Value(constant.digest, digest_of("constant", constant.form), constant)
