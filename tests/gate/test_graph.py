"""A file that was named is held against a fresh export, node by node: no image is needed for it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from pillsnap.compare.result import CellResult
from pillsnap.compare.verdict import GRAPH
from pillsnap.config.cells import Cell
from pillsnap.config.selection import Selection
from pillsnap.config.settings import Config
from pillsnap.diagnose import FreshExports
from pillsnap.export import export_onnx
from pillsnap.export.onnxfile import PREFIX
from pillsnap.export.reading import graph_sha256
from pillsnap.gate.diagnosing import is_wanted
from pillsnap.gate.finish import _publish_bundle
from pillsnap.gate.graph import ALTERED, LISTED, check_graph
from pillsnap.gate.ledger import judge_mode
from pillsnap.gate.run import GateRun
from pillsnap.proof.onnx_edits import add_constant, change_all, insert_after
from pillsnap.proof.roles import activations
from tests.export.test_graphs import disguised

Judge = Callable[..., CellResult]


@pytest.fixture(scope="module")
def small(config: Config) -> Config:
    compare = replace(config.compare, sample_count=4, batch_size=4)
    return replace(config, export=replace(config.export, compare=compare))


@pytest.fixture
def judge(small: Config, tmp_path: Path) -> Judge:
    """The gate's judgement of a classifier that is named."""

    def judge(candidate: onnx.ModelProto, **how: Any) -> CellResult:
        onnx.save(candidate, tmp_path / "candidate.onnx")
        run = GateRun(
            small,
            Selection(
                stages=("classification",),
                candidates={"classification": tmp_path / "candidate.onnx"},
                **how,
            ),
            threads=1,
            run_dir=tmp_path / "run",
        )
        (result,) = judge_mode(run, "smoke")
        assert result.verdict.name != "inconclusive", result.verdict.reason
        assert result.graph is not None
        wanted = is_wanted(run, result)
        assert wanted is any(each.figure != GRAPH for each in result.verdict.breaches)
        return result

    return judge


@pytest.fixture
def exported(small: Config) -> onnx.ModelProto:
    return onnx.load(export_onnx(small, "classification").path)


def cut_off(model: onnx.ModelProto) -> onnx.ModelProto:
    """Activations cut off where no validation image takes them."""
    most = add_constant(model, "most", np.float32(1e4))
    for index, name in enumerate(activations(model)):
        clip = helper.make_node("Clip", ["x", "", most], ["y"], name=f"cut/{index}")
        insert_after(model, name, clip)
    return model


def with_entries(model: onnx.ModelProto, **entries: str) -> onnx.ModelProto:
    for entry in model.metadata_props:
        entry.value = entries.get(entry.key.removeprefix(PREFIX), entry.value)
    return model


def test_an_export_is_identical_whatever_its_names(judge: Judge, exported: onnx.ModelProto) -> None:
    for candidate in (exported, disguised(exported, lambda ready: 0)):
        candidate.metadata_props.MergeFrom(exported.metadata_props[len(candidate.metadata_props) :])
        result = judge(candidate)
        assert result.verdict.name == "equivalent"
        assert result.graph is not None
        assert (result.graph["identical"], result.graph["count"]) == (True, 0)
        compared = {key: result.graph["compared_with"][key] for key in ("exporter", "opset")}
        assert compared == {"exporter": "torchscript", "opset": 17}
        assert result.graph["compared_with"]["reused"]


def test_what_no_image_excites_is_a_breach_of_a_file_of_our_own(
    judge: Judge, exported: onnx.ModelProto
) -> None:
    result = judge(cut_off(exported))
    assert result.metrics["logits_exactness"] < 4
    assert result.verdict.name == "breach"
    (breach,) = result.verdict.breaches
    assert (breach.figure, breach.value) == (GRAPH, 15)
    assert breach.where == "Clip cut/0 added behind Relu /conv1/conv1.2/Relu"
    assert breach.where in result.verdict.reason


def test_a_figure_that_breaches_as_well_is_diagnosed(
    judge: Judge, exported: onnx.ModelProto
) -> None:
    result = judge(change_all(exported, lambda w: w * 1.1))
    assert result.verdict.name == "breach"
    assert {GRAPH, "prob_err_max"} < {each.figure for each in result.verdict.breaches}
    assert result.graph is not None
    assert {each["kind"] for each in result.graph["differences"]} == {"initializer"}


def test_a_file_of_another_exporter_may_be_another_graph(
    judge: Judge, exported: onnx.ModelProto
) -> None:
    foreign = cut_off(exported)
    del foreign.metadata_props[:]
    foreign.producer_name, foreign.producer_version = "slimmer", "1.2"
    result = judge(foreign)
    assert result.verdict.name == "equivalent"
    graph = result.graph
    assert graph is not None and not graph["own"] and not graph["identical"]
    assert (graph["count"], len(graph["differences"])) == (15, 15)
    (producer,) = graph["made_otherwise"]
    assert producer.startswith("producer slimmer 1.2, here pytorch ")


def test_other_versions_may_export_another_graph(judge: Judge, exported: onnx.ModelProto) -> None:
    (versions,) = (e.value for e in exported.metadata_props if e.key == PREFIX + "versions")
    other = json.dumps({**json.loads(versions), "torch": "2.1.0"})
    model = cut_off(exported)
    result = judge(with_entries(model, versions=other, graph_sha256=graph_sha256(model)))
    assert result.verdict.name == "equivalent"
    assert result.graph is not None and result.graph["altered"] is False
    assert result.graph is not None and result.graph["own"]
    (torch,) = result.graph["made_otherwise"]
    assert torch.startswith("torch 2.1.0, here ")


def test_a_file_in_half_precision_is_not_compared(judge: Judge, exported: onnx.ModelProto) -> None:
    from onnxruntime.transformers.float16 import convert_float_to_float16

    half = convert_float_to_float16(exported, keep_io_types=True, disable_shape_infer=True)
    of_half = judge(half, precisions=("fp16",)).graph
    assert of_half is not None and "fp16 has another graph" in of_half["reason"]
    # What says that it is pillsnap's export in float32 is held to it; what says nothing is not.
    passing = judge(half)
    assert passing.verdict.name == "breach"
    assert GRAPH in {each.figure for each in passing.verdict.breaches}
    del half.metadata_props[:]
    foreign = judge(half).graph
    assert foreign is not None and "lower precision" in foreign["reason"]
    assert foreign["compared_with"] is None


def test_a_node_in_half_precision_hides_no_change(judge: Judge, exported: onnx.ModelProto) -> None:
    model = cut_off(exported)
    half = add_constant(model, "half", np.ones((1, 3, 1, 1), np.float16))
    for node in (
        helper.make_node("Cast", [model.graph.input[0].name], ["fp16/x"], to=TensorProto.FLOAT16),
        helper.make_node("Conv", ["fp16/x", half], ["fp16/y"], name="fp16/conv"),
    ):
        model.graph.node.append(node)
    model.graph.output.append(helper.make_tensor_value_info("fp16/y", TensorProto.FLOAT16, None))
    result = judge(model)
    assert result.execution is not None
    assert "fp16" in result.execution["precision"]["compute_nodes_by_type"]
    assert result.verdict.name == "breach"
    assert {each.figure for each in result.verdict.breaches} == {GRAPH}


@pytest.mark.parametrize("how", ["versions", "bundle"])
def test_a_graph_that_is_not_its_own_metadata_s_was_altered(
    judge: Judge, exported: onnx.ModelProto, small: Config, tmp_path: Path, how: str
) -> None:
    chosen: dict[str, Any] = {}
    if how == "bundle":
        saving = Selection(stages=("classification",), save_reference=tmp_path / "bundle")
        run = GateRun(small, saving, threads=1, run_dir=tmp_path / "saving")
        _publish_bundle(run, judge_mode(run, "smoke"))
        chosen = {"reference": tmp_path / "bundle"}
    versions = json.dumps({"torch": "2.1.0"}) if how == "versions" else None
    entries = {} if versions is None else {"versions": versions}
    healthy = judge(with_entries(exported, **entries), **chosen)
    assert healthy.verdict.name == "equivalent"
    assert healthy.graph is not None and healthy.graph["altered"] is False
    (breach,) = judge(cut_off(exported), **chosen).verdict.breaches
    assert (breach.figure, breach.where) == (GRAPH, ALTERED)


def facts_of(config: Config, path: Path, opset: int = 17) -> tuple[Path, dict[str, Any]]:
    export = replace(config.export, opset=opset, out_dir=path)
    made = export_onnx(replace(config, export=export), "classification")
    return made.path, {"path": str(made.path), "sha256": made.sha256}


CELL = Cell("classification", "onnx", "cpu", "fp32", "smoke")


def test_the_fresh_export_is_by_the_files_opset_and_made_once(
    small: Config, tmp_path: Path
) -> None:
    paths = replace(small.paths, exp_dir=tmp_path / "exp")
    (tmp_path / "exp").mkdir()
    (tmp_path / "exp" / "checkpoints").symlink_to(small.exp_dir / "checkpoints")
    export = replace(small.export, out_dir=tmp_path / "shipped")
    config = replace(small, paths=paths, export=export)
    path, info = facts_of(config, tmp_path / "elsewhere", opset=18)
    selection = Selection(candidates={"classification": path})

    def check(run: str, chosen: Selection = selection, **more: Any) -> dict[str, Any]:
        found = check_graph(config, chosen, CELL, {**info, **more}, tmp_path / run)
        assert found is not None
        return found

    first = check("one")
    assert first["identical"] and first["compared_with"]["opset"] == 18
    assert not first["compared_with"]["reused"]
    assert not (tmp_path / "shipped").exists()
    assert check("one") == first
    assert check("two")["compared_with"]["reused"]
    with FreshExports(config) as exports:
        found = exports.like("classification", onnx.load(path))
    assert found.parent == tmp_path / "exp" / "cache" / "exports"
    fresh = check("three", replace(selection, fresh_export=True))
    assert fresh["identical"] and not fresh["compared_with"]["reused"]
    for year in (2001, 2002):
        older = f"classification-{year}0101-000000-nogit.onnx"
        shutil.copy(found, found.parent / older)
    for _ in range(2):
        check("four", replace(selection, fresh_export=True))
    assert len(list(found.parent.glob("*.onnx"))) == 2
    # Where it cannot be made, the report says why; so does a file that is another by now.
    assert "replaced while" in check("five", sha256="0" * 64)["reason"]
    bundle = check("six", replace(selection, reference=tmp_path / "bundle"))
    assert "golden bundle" in bundle["reason"]
    (tmp_path / "exp" / "checkpoints").unlink()
    assert "checkpoint" in check("seven")["reason"]
    assert check_graph(config, Selection(), CELL, info, tmp_path / "run") is None
    assert LISTED >= 24
