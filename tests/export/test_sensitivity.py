"""Which layers to keep in float: the search, by real models in ONNX Runtime, and its lists as the
tools they are for take them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from itertools import chain, combinations
from pathlib import Path
from textwrap import indent

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pillsnap.config.load import load_config
from pillsnap.export.quantize import int8_openvino
from pillsnap.export.quantize.calibration import Calibration, measure_ranges
from pillsnap.export.quantize.groups import group_nodes
from pillsnap.export.quantize.int8 import STATIC_OPS, count_compute
from pillsnap.export.quantize.int8_openvino import no_telemetry, outputs_of, quantize_openvino
from pillsnap.export.quantize.lists import write_lists
from pillsnap.export.quantize.lowering import Lowering, to_fp16_but, to_int8_but
from pillsnap.export.quantize.output_error import output_error
from pillsnap.export.quantize.run_graph import opened
from pillsnap.export.quantize.sensitivity import Sensitivity, find_sensitivity
from pillsnap.export.quantize.trials import Loss, Trials

ROOT = Path(__file__).resolve().parents[2]
LAYERS = 7
IMAGES = np.random.default_rng(0).normal(size=(4, 3, 8, 8)).astype(np.float32)


def chained(scales: Collection[float] = (), up: float = 1.0) -> onnx.ModelProto:
    """Convolutions in a row, and a matrix product.

    Args:
        scales: of one output channel of each convolution, which the next takes back: of a tensor
            with one range for all channels, eight bits then keep little of the others.
        up: by which the whole output of the third is larger, which the fourth takes back.
    """
    random = np.random.default_rng(1)
    weights, nodes, last = [], [], "input"
    scales = [*scales, *[1.0] * (LAYERS - 1 - len(scales))]
    for index in range(LAYERS - 1):
        values = random.normal(size=(6, 3 if index == 0 else 6, 3, 3)) / 5
        values[0] *= scales[index]
        if index:
            values[:, 0] /= scales[index - 1]
        values *= up if index == 2 else 1 / up if index == 3 else 1.0
        weights.append(numpy_helper.from_array(values.astype(np.float32), f"w{index}"))
        inside = {"pads": [1, 1, 1, 1], "name": f"/body/b{index}/Conv"}
        nodes.append(helper.make_node("Conv", [last, f"w{index}"], [f"t{index}"], **inside))
        last = f"t{index}"
    nodes.append(helper.make_node("Flatten", [last], ["flat"], name="/head/Flatten"))
    head = random.normal(size=(6 * 64, 5)).astype(np.float32)
    weights.append(numpy_helper.from_array(head, "fc"))
    nodes.append(helper.make_node("MatMul", ["flat", "fc"], ["logits"], name="/head/MatMul"))
    graph = helper.make_graph(
        nodes,
        "chained",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 5])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@dataclass
class Subject:
    """A model, the way to lower precision, and what it is measured by.

    Attributes:
        limit: of the error of the output, which is the tolerance.
        run: models that were.
    """

    lowering: Lowering
    limit: float
    run: int = 0

    def measure(self, model: onnx.ModelProto, few: bool) -> Loss:
        self.run += 1
        images = IMAGES[:2] if few else IMAGES
        wanted, found = (opened(each)(images)[0] for each in (self.lowering.model, model))
        error = output_error(wanted, found)
        return Loss({"mse": error / self.limit}, error)

    def trials(self, memory: Path | None = None) -> Trials:
        return Trials(self.lowering, self.measure, memory)


def int8(limit: float, scales: Collection[float] = (40.0, 1.0, 1.0, 25.0, 1.0, 60.0)) -> Subject:
    model = chained(scales)
    ranges, _ = measure_ranges(model, [IMAGES], STATIC_OPS)
    return Subject(to_int8_but(model, ranges, None), limit)


def test_the_set_is_near_the_smallest_of_all() -> None:
    errors: dict[frozenset[str], float] = {}
    subject = int8(1.0)

    class Known(Trials):
        """No model is made twice, whatever the tolerance."""

        def _run(self, kept: Collection[str], few: bool) -> Loss:
            key = frozenset((*kept, str(few)))
            if key not in errors:
                errors[key] = super()._run(kept, few).error
            low = int(len(kept) < len(subject.lowering.names))
            return Loss({"mse": errors[key] / limit}, errors[key], low)

    sizes = []
    for limit in (1.0, 0.08, 0.06, 0.03, 0.005, 0.0014):
        trials = Known(subject.lowering, subject.measure)
        found = find_sensitivity(trials, describe=True, most_layers=LAYERS)
        layers = {layer.name: layer.nodes for layer in found.layers}
        sets = chain.from_iterable(combinations(layers, size) for size in range(LAYERS))
        best = next(
            chosen
            for chosen in sets
            if trials.all([node for name in chosen for node in layers[name]]).holds
        )
        assert found.kept is not None and found.loss is not None and found.loss.holds
        assert len(found.kept) <= 1.2 * len(best), (limit, found.kept, best)
        sizes.append(len(best))
    assert sizes == [0, 1, 2, 3, 4, 5]


def test_weights_that_half_precision_rounds_away_are_kept() -> None:
    # The fourth convolution's are near its smallest number.
    subject = Subject(to_fp16_but(chained(up=4e4), ()), 2e-5)
    found = find_sensitivity(subject.trials(), describe=True)
    assert found.kept == ("/body/b3",)
    assert found.by_cost[0].name == "/body/b3"
    lowered = subject.lowering.build(found.kept_nodes)
    assert count_compute(lowered)[1] == found.kept_nodes == ("/body/b3/Conv",)


def test_what_stays_float_in_any_case_is_no_layer() -> None:
    subject = Subject(to_fp16_but(chained(), ["/body/b1/Conv"]), 1.0)
    assert "/body/b1/Conv" in subject.lowering.fixed
    assert "/body/b1/Conv" not in subject.lowering.names
    assert "/body/b1/Conv" in count_compute(subject.lowering.build(()))[1]


def test_a_search_says_what_it_takes_before_it_starts_and_stays_within() -> None:
    subject, told = int8(1e-9), []

    def tell(text: str) -> None:
        told.append((text, subject.run))

    found = find_sensitivity(
        subject.trials(), describe=True, tell=tell, most_layers=LAYERS, most_sets=16
    )
    ((text, before),) = told
    assert text.startswith("7 layers: 14 models on a few images, up to 16 on all; at most ")
    assert before == 2
    assert subject.run <= 2 + 14 + 2 * 16
    assert found.kept is None and found.loss is None and found.kept_nodes == ()


def test_nothing_is_searched_where_everything_may_be_lowered() -> None:
    subject, told = int8(1e9), list[str]()
    found = find_sensitivity(subject.trials(), tell=told.append)
    assert (found.layers, found.kept, found.loss) == ((), (), found.whole)
    assert subject.run == 2 and told == []
    # Asked for, the layers are measured all the same, and nothing is searched for.
    described = find_sensitivity(subject.trials(), describe=True, tell=told.append, most_layers=4)
    assert described.kept == () and len(described.layers) == 4
    assert "on all" not in told[0]


def test_what_was_measured_is_known_in_the_next_run(tmp_path: Path) -> None:
    memory = tmp_path / "memory.json"
    first, again = int8(0.03), int8(0.03)
    found = [find_sensitivity(each.trials(memory), most_layers=4) for each in (first, again)]
    assert found[0] == found[1]
    assert first.run > 4 and again.run == 0
    for damage in ("", "[]", '{"a": {"shares": 1, "unknown": 2}}'):
        memory.write_text(damage)
        fresh = int8(1e9)
        assert find_sensitivity(fresh.trials(memory)).kept == () and fresh.run == 2


def kept_by(subject: Subject) -> tuple[Sensitivity, dict[str, str]]:
    found = find_sensitivity(subject.trials(), most_layers=LAYERS)
    assert found.kept
    outputs = outputs_of(subject.lowering.model)
    return found, write_lists("int8", found.kept_nodes, ["body.b0"], outputs)


def test_onnx_runtime_takes_the_list_as_it_is_written(tmp_path: Path) -> None:
    from onnxruntime import quantization

    subject = int8(0.03)
    found, lists = kept_by(subject)
    source, target = tmp_path / "model.onnx", tmp_path / "int8.onnx"
    onnx.save(subject.lowering.model, source)

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        feeds = iter([{"input": IMAGES}])

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.feeds, None)

    # The text is what a call's arguments are.
    options = eval(f"dict({lists['onnxruntime']})", {})
    quantization.quantize_static(source, target, Reader(), **options)
    assert count_compute(onnx.load(target))[1] == found.kept_nodes


def test_nncf_takes_the_list_as_it_is_written() -> None:
    subject = int8(0.03)
    found, lists = kept_by(subject)
    model = subject.lowering.model
    with no_telemetry():
        nncf = pytest.importorskip("nncf")
        dataset = nncf.Dataset([{"input": IMAGES[:1]}])
        options = eval(f"dict({lists['nncf']})", {"nncf": nncf})
        made = nncf.quantize(model, dataset, subset_size=1, **options)
    assert set(count_compute(made)[1]) >= set(found.kept_nodes)
    assert count_compute(made)[0] > 0


@pytest.mark.parametrize("kept", [["/body/b1/Conv"], ["/body/b1/Conv", "/head/MatMul"]])
def test_nncf_takes_the_list_for_a_model_of_openvino_too(tmp_path: Path, kept: list[str]) -> None:
    """There the name is of the biases' addition, or of the output: "/body/b1/Conv/WithoutBiases"
    and "logits" are what multiplies."""
    openvino, nncf = pytest.importorskip("openvino"), pytest.importorskip("nncf")
    model, path = chained(), tmp_path / "model.onnx"
    model.graph.node[1].input.append("bias")
    model.graph.initializer.append(numpy_helper.from_array(np.ones(6, np.float32), "bias"))
    onnx.save(model, path)
    text = write_lists("int8", kept, [], outputs_of(model))["nncf"]
    with no_telemetry():
        options = eval(f"dict({text})", {"nncf": nncf})
        dataset = nncf.Dataset([IMAGES[:1]])
        for source in (openvino.Core().read_model(path), openvino.convert_model(path)):
            made = nncf.quantize(source, dataset, subset_size=1, **options)
            compute = [n for n in made.get_ops() if n.get_type_name() in int8_openvino._COMPUTE]
            low = [int8_openvino._is_low(node) for node in compute]
            assert (len(low), low.count(False)) == (LAYERS, len(kept))
    calibration = Calibration((Path("any"),), lambda _: IMAGES[0], "")
    _, counts, left = quantize_openvino(model, calibration, exclude=kept)
    assert (counts["nodes_low"], len(left)) == (LAYERS - len(kept), len(kept))


def test_the_nodes_are_pasted_into_the_configuration(tmp_path: Path) -> None:
    names = ["/a/Conv", "node: 1", "#2", 'a "b" \\', "é", "- c", "3"]
    settings = (ROOT / "config.yaml").read_text()
    for precision, key in (("int8", "nodes_to_exclude"), ("fp16", "fp16_nodes_to_exclude")):
        text = write_lists(precision, names, [], {})["nodes"]
        (line,) = (line for line in settings.splitlines() if line.strip().startswith(f"{key}:"))
        path = tmp_path / "config.yaml"
        path.write_text(settings.replace(line, indent(text, "    ")))
        found = load_config(path, {}).export.quantize
        assert getattr(found, key) == tuple(names)
        assert write_lists(precision, [], [], {})["nodes"] == ""


def test_the_other_lists_are_text_in_their_tools_syntax() -> None:
    lists = write_lists("fp16", ["/a/Conv", "/b/Gemm"], ["a", "b"], {})
    assert lists["torch"] == "a\nb"
    assert lists["trtexec"] == (
        "--fp16 --precisionConstraints=obey '--layerPrecisions=/a/Conv:fp32,/b/Gemm:fp32'"
    )
    assert "nncf" not in lists
    assert eval(f"dict({lists['onnxruntime']})", {}) == {"node_block_list": ["/a/Conv", "/b/Gemm"]}
    assert write_lists("int8", [], [], {})["trtexec"] == "--int8 --precisionConstraints=obey"


def test_layers_are_split_where_most_weights_are() -> None:
    names = [*(f"/attention/op{index}" for index in range(9)), "/head/a/Conv", "/head/b/Conv"]
    assert list(group_nodes(names, 3, {"/head/a/Conv", "/head/b/Conv"})) == [
        "/attention",
        "/head/a",
        "/head/b",
    ]


def test_a_model_that_cannot_be_made_loses_everything() -> None:
    subject = int8(1.0)
    broken = replace(subject.lowering, names=("/nowhere",))
    loss = Trials(broken, subject.measure).all(["/nowhere"])
    assert not loss.holds and loss.figure == "not_converted" and subject.run == 0
