"""Models that are no plain YOLO: RT-DETR, whose boxes are of queries, YOLO-World with its
vocabulary, and the classifiers of ultralytics."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from pillsnap.config.cells import CLASSIFICATION, DETECTION
from pillsnap.config.selection import Selection
from pillsnap.config.settings import Config
from pillsnap.core.errors import CheckpointError, WrongCandidate
from pillsnap.engines.torch.checkpoints import find_best_checkpoint
from pillsnap.export import export_onnx
from pillsnap.gate.ledger import judge_mode
from pillsnap.gate.run import GateRun
from pillsnap.proof.onnx_edits import change
from pillsnap.proof.roles import layers
from tests.gate.bench import Bench
from tests.gate.families import make_family, make_yolo_classifier
from tests.gate.native import export_natively

MakeBench = Callable[..., Bench]


@pytest.fixture(scope="module")
def bench(config: Config, tmp_path_factory: pytest.TempPathFactory) -> MakeBench:
    """Of a family, held to its raw boxes or to the best of them."""
    known: dict[tuple[str, bool], Bench] = {}
    configs: dict[str, Config] = {}

    def get(name: str, *, one_to_one: bool = False) -> Bench:
        if name not in configs:
            folder = tmp_path_factory.mktemp(name)
            compare = replace(config.compare, sample_count=4, batch_size=4)
            export = replace(config.export, compare=compare, out_dir=folder / "export")
            configs[name] = make_family(replace(config, export=export), folder, name, 160)
        key = (name, one_to_one)
        if key not in known:
            known[key] = Bench(configs[name], DETECTION, one_to_one=one_to_one)
            samples = known[key].batch.samples
            known[key].batch.samples = [replace(sample, boxes=None) for sample in samples]
        return known[key]

    return get


def scaled(model: onnx.ModelProto) -> onnx.ModelProto:
    names = layers(model)
    return change(model, names[len(names) // 2], lambda weights: weights * 1.002)


@pytest.mark.parametrize(
    "name", ["yolov8n-rtdetr", pytest.param("yolov8n-worldv2", marks=pytest.mark.slow)]
)
def test_pillsnap_s_own_export_of_it_is_equivalent(
    bench: MakeBench, save: Callable[[onnx.ModelProto], Path], name: str
) -> None:
    of = bench(name)
    exported = export_onnx(of.config, DETECTION)
    assert of.judge(exported.path)[0].name == "equivalent"
    assert exported.dynamic_axes
    model = scaled(onnx.load(exported.path))
    del model.metadata_props[:]
    assert of.judge(save(model))[0].name == "breach"


@pytest.mark.parametrize(
    ("name", "layout"), [("yolov8n-rtdetr", "queries"), ("yolov8n-worldv2", "output0")]
)
def test_ultralytics_export_of_it_is_equivalent(
    bench: MakeBench,
    save: Callable[[onnx.ModelProto], Path],
    tmp_path: Path,
    name: str,
    layout: str,
) -> None:
    of = bench(name, one_to_one=layout == "queries")
    model = export_natively(of.config, tmp_path)
    verdict, found = of.judge(save(model))
    assert (verdict.name, found["name"]) == ("equivalent", layout)
    assert of.judge(save(scaled(model)))[0].name == "breach"


@pytest.mark.slow
def test_the_head_that_is_chosen_is_the_one_that_is_held_to(
    bench: MakeBench, save: Callable[[onnx.ModelProto], Path], tmp_path: Path
) -> None:
    many = bench("yolo26n")
    detection = replace(many.config.detection, head="one_to_one")
    config = replace(many.config, detection=detection)
    one = Bench(config, DETECTION, many.batch)
    files = [export_onnx(each, DETECTION).path for each in (many.config, config)]
    for of, own, other in ((many, *files), (one, *reversed(files))):
        assert of.judge(own)[0].name == "equivalent"
        assert of.judge(other)[0].name == "breach"
    native = save(export_natively(many.config, tmp_path, nms=False))
    held = Bench(config, DETECTION, many.batch, one_to_one=True)
    assert held.judge(native)[0].name == "equivalent"


def test_a_run_judges_it_without_strides(bench: MakeBench, tmp_path: Path) -> None:
    config = bench("yolov8n-rtdetr").config
    selection = Selection(stages=(DETECTION,), reference_cache=False)
    run = GateRun(config, selection, threads=1, run_dir=tmp_path, contended=True)
    (result,) = judge_mode(run, "smoke")
    assert (result.verdict.name, result.verdict.breaches) == (
        "inconclusive",
        (),
    )  # of random weights
    assert "as exact as torch's" in result.verdict.reason
    assert result.metrics["per_stride"] == [] and result.metrics["reference_boxes"] > 0
    assert result.batching is not None and len(result.batching["input_sizes"]) == 2


@pytest.mark.parametrize("embeddings", ["random", "of other classes"])
def test_a_yolo_world_without_a_vocabulary_is_refused(
    bench: MakeBench, tmp_path: Path, embeddings: str
) -> None:
    import torch

    config = bench("yolov8n-worldv2").config
    file = tmp_path / "checkpoints" / "detection_best.pt"
    content = torch.load(find_best_checkpoint(config, DETECTION), weights_only=False)
    own = content["model"].txt_feats
    content["model"].txt_feats = torch.randn_like(own) if embeddings == "random" else own[:, :2]
    file.parent.mkdir()
    torch.save(content, file)
    moved = replace(config, paths=replace(config.paths, exp_dir=tmp_path))
    with pytest.raises(CheckpointError, match="has no fixed vocabulary"):
        Bench(moved, DETECTION)


@pytest.fixture(scope="module")
def classifier(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Of random weights, that are right on every photo."""
    folder = tmp_path_factory.mktemp("classifier")
    export = replace(config.export, out_dir=folder / "export")
    found = Bench(make_yolo_classifier(replace(config, export=export), folder), CLASSIFICATION)
    labelled = zip(found.batch.samples, found.answer.argmax(axis=1), strict=True)
    found.batch.samples = [replace(sample, label=int(label)) for sample, label in labelled]
    return found


def test_pillsnap_s_own_export_of_a_yolo_classifier_is_equivalent(
    classifier: Bench, save: Callable[[onnx.ModelProto], Path]
) -> None:
    exported = export_onnx(classifier.config, CLASSIFICATION)
    assert classifier.judge(exported.path)[0].name == "equivalent"
    model = scaled(onnx.load(exported.path))
    del model.metadata_props[:]
    assert classifier.judge(save(model))[0].name == "breach"


SLOW = [{"dynamic": True}, {"simplify": True}, {"opset": 13}, {"opset": 19}, {"quantize": 16}]


@pytest.mark.parametrize("options", [{}, *(pytest.param(x, marks=pytest.mark.slow) for x in SLOW)])
def test_ultralytics_export_of_a_classifier_is_equivalent(
    classifier: Bench,
    save: Callable[[onnx.ModelProto], Path],
    tmp_path: Path,
    options: dict[str, object],
) -> None:
    model = export_natively(classifier.config, tmp_path, CLASSIFICATION, **options)
    profile = "fp16" if "quantize" in options else "strict"
    verdict, layout = classifier.judge(save(model), profile=profile)
    assert verdict.name == ("within_tolerance" if "quantize" in options else "equivalent")
    assert layout["name"] == "probabilities"
    if "quantize" not in options:
        assert classifier.judge(save(scaled(model)))[0].name == "breach"


def test_classes_in_another_order_than_the_checkpoint_has_are_refused(
    classifier: Bench, save: Callable[[onnx.ModelProto], Path], tmp_path: Path
) -> None:
    model = export_natively(classifier.config, tmp_path, CLASSIFICATION)
    names = next(entry for entry in model.metadata_props if entry.key == "names")
    listed = ast.literal_eval(names.value)
    listed[0], listed[1] = listed[1], listed[0]
    names.value = str(listed)
    with pytest.raises(WrongCandidate, match="classes are in another order"):
        classifier.judge(save(model))
