"""Two graphs are equal but for names, order and notes, or every difference is named."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from pillsnap.config.settings import Config
from pillsnap.export import export_onnx
from pillsnap.export.graphs import find_differences
from pillsnap.proof.onnx_edits import add_constant, change, insert_after, set_attribute

FLOAT = TensorProto.FLOAT


@st.composite
def graphs(draw: st.DrawFn) -> onnx.ModelProto:
    """Any graph of one input: chains, branches, weights of their own and shared, dead ends."""
    nodes, known, weights = [], ["x"], []
    for index in range(draw(st.integers(1, 12))):
        kind = draw(st.sampled_from(["Relu", "Sigmoid", "Sub", "Concat", "Gemm", "Split"]))
        given_ = [
            draw(st.sampled_from(known)) for _ in range(2 if kind in ("Sub", "Concat") else 1)
        ]
        attributes = {}
        if kind == "Gemm":
            if not weights or draw(st.booleans()):
                value = draw(st.lists(st.floats(-2, 2, width=32), min_size=2, max_size=2))
                name = f"w{len(weights)}"
                weights.append(numpy_helper.from_array(np.float32(value), name))
            given_.append(draw(st.sampled_from([each.name for each in weights])))
            attributes = {"alpha": draw(st.sampled_from([0.5, 1.0]))}
        if kind in ("Concat", "Split"):
            attributes = {"axis": draw(st.integers(0, 2))}
        made = [f"t{index}.{slot}" for slot in range(2 if kind == "Split" else 1)]
        nodes.append(helper.make_node(kind, given_, made, name=f"n{index}", **attributes))
        known += made
    outputs = draw(st.lists(st.sampled_from(known[1:]), min_size=1, max_size=2, unique=True))
    return model_of(nodes, outputs, weights)


def model_of(
    nodes: list[onnx.NodeProto], outputs: list[str], weights: list[onnx.TensorProto]
) -> onnx.ModelProto:
    ends = [helper.make_tensor_value_info(name, FLOAT, ["N", 3]) for name in outputs]
    fed = [helper.make_tensor_value_info("x", FLOAT, ["N", 3])]
    graph = helper.make_graph(nodes, "graph", fed, ends, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


def copy_of(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def disguised(model: onnx.ModelProto, order: Callable[[list[int]], int]) -> onnx.ModelProto:
    """Other names for everything, the nodes in another order that works, notes everywhere."""
    copy = copy_of(model)
    graph = copy.graph

    def other(name: str) -> str:
        return f"other/{name}" if name else name

    for part in (graph.initializer, graph.input, graph.output, graph.node):
        for each in part:
            each.name = other(each.name)
            each.doc_string = "a note"
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [other(name) for name in names]
    left, known = list(graph.node), {each.name for each in (*graph.input, *graph.initializer)}
    del graph.node[:]
    while left:
        ready = [i for i, node in enumerate(left) if known.issuperset(filter(None, node.input))]
        node = left.pop(ready[order(ready)])
        known.update(node.output)
        graph.node.append(node)
    graph.name, copy.producer_name, copy.doc_string = "another", "nobody", "a note"
    helper.set_model_props(copy, {"author": "nobody"})
    for value in graph.input:
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    return copy


@settings(deadline=None)
@given(graphs(), st.data())
def test_names_order_and_notes_are_no_difference(
    model: onnx.ModelProto, data: st.DataObject
) -> None:
    def draw(ready: list[int]) -> int:
        return data.draw(st.integers(0, len(ready) - 1))

    other = disguised(model, draw)
    assert find_differences(model, other) == []
    assert find_differences(other, model) == []


@settings(deadline=None)
@given(graphs(), st.data())
def test_any_single_change_is_found(model: onnx.ModelProto, data: st.DataObject) -> None:
    changed = copy_of(model)
    graph = changed.graph
    node = data.draw(st.sampled_from(list(graph.node)))
    ways = ["operator", "more", "less"]
    ways += ["attribute"] if node.attribute else []
    ways += ["weight"] if graph.initializer else []
    way = data.draw(st.sampled_from(ways))
    if way == "operator":
        node.op_type = "Relu" if node.op_type == "Sigmoid" else "Sigmoid"
    elif way == "more":
        insert_after(changed, node.output[0], helper.make_node("Abs", ["x"], ["y"], name="more"))
    elif way == "less":
        insert_after(model, node.output[0], helper.make_node("Abs", ["x"], ["y"], name="more"))
    elif way == "attribute":
        (attribute,) = node.attribute
        set_attribute(node, attribute.name, 0.75 if attribute.name == "alpha" else 7)
    else:
        name = data.draw(st.sampled_from([each.name for each in graph.initializer]))
        slot, bit = data.draw(st.integers(0, 1)), data.draw(st.integers(0, 31))

        def flip(values: np.ndarray) -> np.ndarray:
            values.view(np.uint32)[slot] ^= np.uint32(1 << bit)
            return values

        change(changed, name, flip)
    disguise = disguised(changed, lambda ready: 0)
    for other in (changed, disguise):
        assert find_differences(model, other)
        assert find_differences(other, model)


@pytest.fixture(scope="module")
def healthy(config: Config) -> onnx.ModelProto:
    return onnx.load(export_onnx(config, "classification").path)


def texts(wanted: onnx.ModelProto, found: onnx.ModelProto) -> list[tuple[str, str]]:
    return [(each.kind, str(each)) for each in find_differences(wanted, found)]


def test_a_change_is_the_one_difference_whatever_the_names(healthy: onnx.ModelProto) -> None:
    wrong = change(copy_of(healthy), "fc.weight", lambda w: w + np.eye(*w.shape) / 8)
    for found in (wrong, disguised(wrong, lambda ready: -1)):
        ((kind, text),) = texts(healthy, found)
        assert kind == "initializer"
        assert text.endswith(
            "fc.weight float [24, 96]: 24 of 2,304 elements differ, by 0.125 at most"
        )
    attribute = copy_of(healthy)
    conv = next(node for node in attribute.graph.node if node.op_type == "Conv")
    set_attribute(conv, "pads", [0, 0, 2, 2])
    assert texts(healthy, attribute) == [
        ("attribute", f"Conv {conv.name} pads [0, 0, 2, 2] in place of [1, 1, 1, 1]")
    ]
    operator = copy_of(healthy)
    relu = next(node for node in operator.graph.node if node.op_type == "Relu")
    relu.op_type = "Sigmoid"
    assert texts(healthy, operator) == [("operator", f"Sigmoid {relu.name} in place of Relu")]


def test_nodes_that_one_side_has_alone_are_named_where_they_stand(healthy: onnx.ModelProto) -> None:
    relu = [node for node in healthy.graph.node if node.op_type == "Relu"][3]
    more = copy_of(healthy)
    most = add_constant(more, "most", np.float32(1e4))
    clip = helper.make_node("Clip", ["x", "", most], ["y"], name="cut")
    insert_after(more, relu.output[0], clip)
    assert texts(healthy, more) == [("added", f"Clip cut added behind Relu {relu.name}")]
    assert texts(more, healthy) == [("missing", f"Clip cut missing behind Relu {relu.name}")]


def relu(given: str, made: str) -> onnx.NodeProto:
    return helper.make_node("Relu", [given], [made], name=made)


def weight(name: str, *values: float) -> onnx.TensorProto:
    return numpy_helper.from_array(np.float32(values), name)


def test_wiring_counts() -> None:
    def sub(first: str, second: str) -> onnx.ModelProto:
        nodes = [relu("x", "a"), helper.make_node("Sigmoid", ["x"], ["b"], name="b")]
        nodes.append(helper.make_node("Sub", [first, second], ["y"], name="y"))
        return model_of(nodes, ["y"], [])

    assert texts(sub("a", "b"), sub("b", "a")) == [
        ("wiring", "Sub y input 0 is Sigmoid b in place of Relu a"),
        ("wiring", "Sub y input 1 is Relu a in place of Sigmoid b"),
    ]
    assert texts(sub("a", "b"), sub("a", "x")) == [
        ("wiring", "Sub y input 1 is the graph's input 0 in place of Sigmoid b"),
    ]


def test_what_computes_nothing_counts_as_well() -> None:
    plain = model_of([relu("x", "y")], ["y"], [])
    dead = model_of([relu("x", "y"), relu("y", "z")], ["y"], [])
    assert texts(plain, dead) == [("added", "Relu z added behind Relu y")]
    twice = model_of([relu("x", "y"), relu("x", "z")], ["y"], [])
    assert [kind for kind, _ in texts(plain, twice)] == ["added"]
    unread = model_of([relu("x", "y")], ["y"], [weight("w", 1, 2)])
    assert texts(unread, plain) == [
        ("initializer", "initializer w float [2] missing, which nothing reads")
    ]


def test_the_interface_counts() -> None:
    plain = model_of([relu("x", "y")], ["y"], [])
    other = copy_of(plain)
    other.opset_import[0].version = 18
    other.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4
    assert texts(plain, other) == [
        ("interface", "inputs ['float [4, 3]'] in place of ['float [free, 3]']"),
        ("interface", "opsets {'ai.onnx': 18} in place of {'ai.onnx': 17}"),
    ]


def test_where_a_constant_stands_is_no_difference_and_its_bits_are() -> None:
    add = helper.make_node("Add", ["x", "w"], ["y"], name="y")
    by_weight = model_of([add], ["y"], [weight("w", 0.0, 1.0)])
    held = helper.make_node("Constant", [], ["w"], value=weight("", 0.0, 1.0))
    assert texts(by_weight, model_of([held, add], ["y"], [])) == []
    listed = helper.make_node("Constant", [], ["w"], value_floats=[0.0, 1.0])
    assert texts(by_weight, model_of([listed, add], ["y"], [])) == []
    signed = model_of([add], ["y"], [weight("w", -0.0, 1.0)])
    assert texts(by_weight, signed) == [
        ("initializer", "Add y initializer w float [2]: 1 of 2 elements differ, by 0 at most")
    ]
    wide = numpy_helper.from_array(np.float64([0.0, 1.0]), "w")
    assert texts(by_weight, model_of([add], ["y"], [wide])) == [
        ("initializer", "Add y initializer w double [2] in place of float [2]")
    ]


def test_bodies_of_nodes_and_functions_of_the_model_are_read() -> None:
    def conditional(inner: str, outer: float) -> onnx.ModelProto:
        """`inner` of x + outer, inside an If."""
        sides = [
            helper.make_graph(
                [helper.make_node(kind, ["sum"], [f"{side}/y"])],
                side,
                [],
                [helper.make_tensor_value_info(f"{side}/y", FLOAT, None)],
            )
            for side, kind in (("then", inner), ("else", "Relu"))
        ]
        nodes = [
            helper.make_node("Add", ["x", "w"], ["sum"], name="sum"),
            helper.make_node(
                "If", ["true"], ["y"], name="if", then_branch=sides[0], else_branch=sides[1]
            ),
        ]
        true = numpy_helper.from_array(np.array(True), "true")
        return model_of(nodes, ["y"], [weight("w", outer), true])

    plain = conditional("Sigmoid", 1)
    assert texts(plain, conditional("Sigmoid", 1)) == []
    ((kind, text),) = texts(plain, conditional("Tanh", 1))
    assert kind == "attribute" and text.startswith("If if then_branch a graph")
    assert (
        "initializer",
        "Add sum initializer w float [1]: 1 of 1 elements differ, by 1 at most",
    ) in (texts(plain, conditional("Sigmoid", 2)))

    def called(kind: str) -> onnx.ModelProto:
        model = model_of([helper.make_node("Own", ["x"], ["y"], domain="own")], ["y"], [])
        opsets = [helper.make_opsetid("", 17)]
        body = [helper.make_node(kind, ["a"], ["b"])]
        model.functions.append(helper.make_function("own", "Own", ["a"], ["b"], body, opsets))
        model.opset_import.append(helper.make_opsetid("own", 1))
        return model

    assert texts(called("Relu"), called("Relu")) == []
    assert [kind for kind, _ in texts(called("Relu"), called("Tanh"))] == ["operator"]


def test_strings_and_numbers_of_any_type_are_held_against_each_other() -> None:
    def of(array: np.ndarray) -> onnx.ModelProto:
        node = helper.make_node("Identity", ["w"], ["y"], name="y")
        return model_of([node], ["y"], [numpy_helper.from_array(array, "w")])

    for one, other, how in (
        (np.array(["a", "b"], object), np.array(["a", "c"], object), "1 of 2 elements differ"),
        (np.array([True]), np.array([False]), "1 of 1 elements differ"),
        (np.complex64([1, 2j]), np.complex64([1, 4j]), "1 of 2 elements differ, by 2 at most"),
        (np.array(7), np.array(9), "1 of 1 elements differ, by 2 at most"),
        (np.float32([1]), np.float32([np.nan]), "1 of 1 elements differ, by nan at most"),
    ):
        assert texts(of(one), of(one)) == []
        ((_, text),) = texts(of(one), of(other))
        assert text.endswith(how)
