"""Diagnoses of real faults in the demo's exports: layer, stage, cause, repro."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from pillsnap.compare.tasks import DETECTION_TASK
from pillsnap.config.settings import Config
from pillsnap.diagnose import FreshExports, Subject, diagnose, node_by_node
from pillsnap.diagnose import subject as subject_module
from pillsnap.diagnose.causes import find_causes
from pillsnap.diagnose.layers import locate
from pillsnap.diagnose.pipeline_budget import NAMED, pipeline_budget
from pillsnap.diagnose.stages import error_budget
from pillsnap.diagnose.torch_modules import compare_modules
from pillsnap.engines import Batch
from pillsnap.engines.torch.checkpoints import build_model, find_best_checkpoint
from pillsnap.export import export_classification_onnx, export_detection_onnx
from pillsnap.pipeline.crops import crop_box
from pillsnap.pipeline.preprocess import Pixels, Tensor, preprocess
from tests.diagnose.node_faults import NodeFault, inject
from tests.diagnose.subjects import MakeSubject, subjects_of
from tests.small_models import Experiment

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def files(config: Config) -> dict[str, Path]:
    return {
        "detection": export_detection_onnx(config).path,
        "classification": export_classification_onnx(config).path,
    }


@pytest.fixture(scope="module")
def subject_of(config: Config) -> MakeSubject:
    return subjects_of(config)


@pytest.fixture(scope="module")
def exports(config: Config) -> Iterator[FreshExports]:
    with FreshExports(config) as exports:
        yield exports


def test_a_file_is_opened_as_the_cells_is_but_for_what_is_given(
    subject_of: MakeSubject, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = files["classification"]
    subject = subject_of("classification", path)
    opened: list[tuple[object, ...]] = []
    open_session = subject_module.open_session

    def noted(model: Path | bytes, *how: Any) -> Any:
        opened.append((model, *how))
        return open_session(model, *how)

    monkeypatch.setattr(subject_module, "open_session", noted)
    runtime = subject.config.session_options
    plain = replace(runtime, graph_optimization_level="ORT_DISABLE_ALL")
    content = path.read_bytes()
    elsewhere = replace(subject, cell=replace(subject.cell, precision="int8"), provider="auto")
    for given in ({}, {"runtime": plain}, {"threads": 2}, {"precision": "fp32"}):
        elsewhere.open(path, **given)  # type: ignore[arg-type]
    elsewhere.open(content, provider="cpu")
    assert opened == [
        (path, "auto", 1, runtime, "int8"),
        (path, "auto", 1, plain, "int8"),
        (path, "auto", 2, runtime, "int8"),
        (path, "auto", 1, runtime, "fp32"),
        (content, "cpu", 1, runtime, "int8"),
    ]


def prepared(subject: Subject, prepare: Callable[[Pixels], Tensor]) -> Subject:
    """The subject with other preprocessing on the candidate's side."""
    return replace(subject, candidate=replace(subject.candidate, prepare=prepare))


def batch_of(subject: Subject, count: int = 1) -> Batch:
    return subject.reference.batch(subject.images[:count])


def renamed(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which every inner tensor and node has another name."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    ends = {value.name for value in (*copy.graph.input, *copy.graph.output)}
    for number, node in enumerate(copy.graph.node):
        node.name = f"n{number}"
        for names in (node.input, node.output):
            names[:] = [name if name in ends or not name else f"t_{name}" for name in names]
    for tensor in copy.graph.initializer:
        tensor.name = f"t_{tensor.name}"
    return copy


class TestLayers:
    @pytest.mark.parametrize("part", ["weight", "output"])
    def test_faulty_node_is_named_by_a_healthy_export(
        self, subject_of: MakeSubject, files: dict[str, Path], part: str
    ) -> None:
        healthy = onnx.load(files["classification"])
        fault = NodeFault("/layer3/layer3.0/conv2/Conv", part)
        subject = subject_of("classification", files["classification"])
        found = locate(inject(healthy, fault), healthy, None, batch_of(subject, 2), threads=1)
        assert found is not None
        (place,) = found.places
        assert (place.node, place.op_type, place.module) == (
            fault.node,
            "Conv",
            "layer3.0.conv2",
        )
        assert place.bracket == (fault.node,)
        assert 0.01 < place.relative_error < 0.2
        assert found.curve[0][1] == 0 < found.curve[-1][1]

    def test_it_is_found_whatever_the_memory_and_the_names(
        self,
        subject_of: MakeSubject,
        files: dict[str, Path],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        healthy = onnx.load(files["classification"])
        bad = inject(healthy, NodeFault("/layer2/layer2.0/conv1/Conv", "weight"))
        images = batch_of(subject_of("classification", files["classification"]))
        roomy = locate(bad, healthy, None, images, threads=1)
        with monkeypatch.context() as patch:
            patch.setattr(node_by_node, "TAP_BYTES", 1)
            assert locate(bad, healthy, None, images, threads=1) == roomy
        found = locate(renamed(bad), healthy, None, images, threads=1)
        assert roomy is not None and found is not None
        assert found.places == roomy.places

    def test_two_faults_are_two_places(
        self, subject_of: MakeSubject, files: dict[str, Path]
    ) -> None:
        healthy = onnx.load(files["classification"])
        bad = onnx.ModelProto()
        bad.CopyFrom(healthy)
        # On two branches that meet later, so that neither follows from the other.
        names = ("/layer2/layer2.0/conv2/Conv", "/layer2/layer2.0/downsample/downsample.1/Conv")
        for node in bad.graph.node:
            if node.name in names:
                tensor = next(t for t in bad.graph.initializer if t.name == node.input[1])
                values = numpy_helper.to_array(tensor) * np.float32(1.05)
                tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
        images = batch_of(subject_of("classification", files["classification"]))
        found = locate(bad, healthy, None, images, threads=1)
        assert found is not None
        assert [place.node for place in found.places] == list(names)

    @pytest.mark.parametrize(("exporter", "opset"), [("torchscript", 17), ("dynamo", 18)])
    def test_healthy_exports_agree_with_every_module_of_torch(
        self,
        config: Config,
        subject_of: MakeSubject,
        tmp_path: Path,
        exporter: str,
        opset: int,
    ) -> None:
        export = replace(config.export, out_dir=tmp_path, exporter=exporter, opset=opset)  # type: ignore[arg-type]
        path = export_classification_onnx(replace(config, export=export)).path
        subject = subject_of("classification", path)
        images = batch_of(subject)
        found = locate(onnx.load(path), None, subject.load_network, images, threads=1)
        assert found is not None
        assert found.method == "torch modules"
        assert found.places == ()
        # Of 37 nodes; a convolution is held against the BatchNorm that is folded into it.
        assert found.compared >= 30
        bad = next(n for n in onnx.load(path).graph.node if n.op_type == "Conv")
        faulty = inject(onnx.load(path), NodeFault(bad.name, "weight"))
        found = locate(faulty, None, subject.load_network, images, threads=1)
        assert found is not None
        assert found.places[0].node == bad.name
        # Dynamo calls the two by the BatchNorm.
        assert found.places[0].module == ("conv1.0" if exporter == "torchscript" else "conv1.1")

    def test_without_a_twin_modules_tell_what_rounding_does_not_explain(
        self, subject_of: MakeSubject, files: dict[str, Path]
    ) -> None:
        subject = subject_of("classification", files["classification"])
        model = onnx.load(files["classification"])
        # The second fades behind the sum of its block, which rounds more than it is off.
        for node, scale in (("layer1.0/conv1", 1e-5), ("layer3.0/conv2", 5e-6)):
            fault = NodeFault(f"/{node.partition('.')[0]}/{node}/Conv", "weight")
            bad = inject(model, fault, np.float32(1 + scale))
            found = locate(bad, None, subject.load_network, batch_of(subject), threads=1)
            assert found is not None
            assert fault.node in found.places[0].bracket
            assert found.floor < found.places[0].relative_error < 2 * scale

    @pytest.mark.parametrize("backbone", ["test_efficientnet", "test_vit", "test_convnext"])
    def test_activating_norms_and_attention_agree_too(
        self, experiment: Experiment, backbone: str
    ) -> None:
        import torch

        config = experiment(backbone=backbone, size=160)
        checkpoint = find_best_checkpoint(config, "classification")
        state = torch.load(checkpoint, weights_only=True)
        for name, value in state.items():
            if name.endswith("running_var"):  # a BatchNorm as initialised changes nothing
                value.uniform_(0.5, 1.5)
        torch.save(state, checkpoint)
        model = onnx.load(export_classification_onnx(config).path)
        network = build_model(config, "classification", checkpoint).module
        images = np.random.default_rng(0).normal(size=(1, 3, 160, 160)).astype(np.float32)
        errors = compare_modules(model, network, images, threads=1)
        assert [item for item in errors if not item.agrees] == []
        convolutions = [node for node in model.graph.node if node.op_type in ("Conv", "Gemm")]
        assert len(errors) > len(convolutions) > 0
        if backbone == "test_efficientnet":  # timm's BatchNorm activates, after its `drop`
            taps = {item.tensor: item.module for item in errors}
            assert taps["/conv_stem/Conv_output_0"] == "bn1.drop"


def half_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            values = numpy_helper.to_array(tensor).astype(np.float16).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    return model


def scaled_head(model: onnx.ModelProto) -> onnx.ModelProto:
    tensor = next(t for t in model.graph.initializer if t.name.endswith("fc.weight"))
    values = numpy_helper.to_array(tensor) * np.float32(1.05)
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    return model


def other_operator(model: onnx.ModelProto) -> onnx.ModelProto:
    next(n for n in model.graph.node if n.op_type == "Relu").op_type = "Softplus"
    return model


def half_precision(model: onnx.ModelProto) -> onnx.ModelProto:
    from onnxruntime.transformers.float16 import convert_float_to_float16

    half: onnx.ModelProto = convert_float_to_float16(
        model, keep_io_types=True, disable_shape_infer=True
    )
    return half


class TestCauses:
    @pytest.mark.filterwarnings("ignore:the float32 number")
    @pytest.mark.parametrize(
        ("fault", "kind", "words"),
        [
            (half_weights, "weights", "rounded to half precision"),
            (scaled_head, "weights", "1 differ from the checkpoint's (fc.weight)"),
            (other_operator, "conversion", "operators or attributes"),
            (half_precision, "precision", "computes in FP16"),
        ],
    )
    def test_of_files(
        self,
        subject_of: MakeSubject,
        files: dict[str, Path],
        exports: FreshExports,
        save: Callable[[onnx.ModelProto], Path],
        fault: Callable[[onnx.ModelProto], onnx.ModelProto],
        kind: str,
        words: str,
    ) -> None:
        path = save(fault(onnx.load(files["classification"])))
        causes = find_causes(subject_of("classification", path), onnx.load(path), exports)
        assert causes.stated is not None, causes.in_words()
        assert causes.stated.kind == kind
        assert words in causes.in_words()
        assert causes.before["prob_err_max"] > 1e-4 > causes.stated.after["prob_err_max"]  # type: ignore[index]
        assert [tried.vanishes for tried in causes.tried].count(True) == 1

    @pytest.mark.filterwarnings("ignore")  # torch's, about training mode
    def test_training_mode(
        self,
        subject_of: MakeSubject,
        files: dict[str, Path],
        exports: FreshExports,
        tmp_path: Path,
    ) -> None:
        import torch

        healthy = subject_of("classification", files["classification"])
        path = tmp_path / "training.onnx"
        free = {0: "batch"}
        torch.onnx.export(
            healthy.load_network(),
            (torch.zeros((2, *batch_of(healthy).shape[1:])),),
            str(path),
            dynamo=False,
            opset_version=17,
            training=torch.onnx.TrainingMode.TRAINING,
            do_constant_folding=False,
            input_names=["input"],
            output_names=["logits"],
            dynamic_axes={"input": free, "logits": free},
        )
        causes = find_causes(subject_of("classification", path), onnx.load(path), exports)
        assert "training mode" in causes.in_words()

    @pytest.mark.parametrize(
        ("words", "prepare"),
        [
            ("channel order", lambda tensor, std, mean: tensor[::-1]),
            ("no mean and std", lambda tensor, std, mean: tensor * std + mean),
            ("mean and std applied twice", lambda tensor, std, mean: (tensor - mean) / std),
            (
                "divided by 255 once too often",
                lambda tensor, std, mean: ((tensor * std + mean) / 255 - mean) / std,
            ),
            (
                "0..255 without mean and std",
                lambda tensor, std, mean: (tensor * std + mean) * 255,
            ),
        ],
    )
    def test_of_normalisation(
        self,
        subject_of: MakeSubject,
        files: dict[str, Path],
        exports: FreshExports,
        words: str,
        prepare: Callable[[Tensor, float, float], Tensor],
    ) -> None:
        path = files["classification"]
        subject = subject_of("classification", path)

        def wrong(image: Pixels) -> Tensor:
            tensor = prepare(preprocess(image, subject.transform), 0.5, 0.5)
            return np.ascontiguousarray(tensor, np.float32)

        causes = find_causes(prepared(subject, wrong), onnx.load(path), exports)
        assert causes.stated is not None, causes.in_words()
        assert (causes.stated.kind, words in causes.stated.cause) == ("preprocessing", True)

    @pytest.mark.parametrize(
        ("stage", "words", "changes"),
        [
            ("classification", "resized by bilinear", {"interpolation": "bilinear"}),
            ("classification", "crop_pct 0.875", {"crop_pct": 0.875}),
            ("classification", "crop_mode squash", {"crop_mode": "squash"}),
            (
                "classification",
                "mean and std ImageNet's",
                {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)},
            ),
            ("detection", "padding of 0", {"pad_value": 0}),
        ],
    )
    def test_of_resizing(
        self,
        subject_of: MakeSubject,
        files: dict[str, Path],
        exports: FreshExports,
        stage: str,
        words: str,
        changes: dict[str, object],
    ) -> None:
        subject = subject_of(stage, files[stage], 1)
        other = replace(subject.transform, **changes)  # type: ignore[arg-type]
        wrong = prepared(subject, lambda image: preprocess(image, other))
        causes = find_causes(wrong, onnx.load(files[stage]), exports)
        assert causes.stated is not None, causes.in_words()
        assert words in causes.stated.cause

    def test_of_a_provider(
        self, subject_of: MakeSubject, files: dict[str, Path], exports: FreshExports
    ) -> None:
        """A provider that is not here, so what it would answer is made up; the CPU's is real."""
        path = files["classification"]
        subject = subject_of("classification", path)

        def wrong(batch: Batch) -> Batch:
            return subject.opened(batch) * np.float32(1.1)

        elsewhere = replace(
            subject,
            provider="cuda",
            opened=wrong,
            candidate=replace(subject.candidate, network=wrong),
        )
        causes = find_causes(elsewhere, onnx.load(path), exports)
        assert causes.stated is not None, causes.in_words()
        assert (causes.stated.kind, causes.stated.name) == ("runtime", "CPU provider")
        assert causes.stated.cause == "execution provider cuda"
        by_name = {tried.name: tried for tried in causes.tried}
        assert by_name["graph optimisation off"].problem is not None

    def test_what_no_intervention_explains_is_said(
        self, subject_of: MakeSubject, files: dict[str, Path], exports: FreshExports
    ) -> None:
        path = files["classification"]
        subject = subject_of("classification", path)
        rng = np.random.default_rng(0)

        def noisy(batch: Batch) -> Batch:
            answer = subject.opened(batch)
            return answer + rng.normal(0, 1, answer.shape).astype(np.float32)

        def wrong(image: Pixels) -> Tensor:
            return np.zeros_like(preprocess(image, subject.transform))

        both = prepared(subject, wrong)
        both = replace(both, candidate=replace(both.candidate, network=noisy))
        causes = find_causes(both, onnx.load(path), exports)
        assert causes.stated is None
        assert causes.in_words().startswith("not explained: none of ")

    def test_without_a_difference_nothing_is_tried(
        self, subject_of: MakeSubject, files: dict[str, Path], exports: FreshExports
    ) -> None:
        path = files["classification"]
        causes = find_causes(subject_of("classification", path), onnx.load(path), exports)
        assert (causes.tried, causes.stated) == ((), None)
        assert causes.in_words().startswith("nothing differs beyond rounding on these")


Change = Callable[[Subject], Subject]


def with_prepare(**changes: object) -> Change:
    def change(subject: Subject) -> Subject:
        other = replace(subject.transform, **changes)  # type: ignore[arg-type]
        return prepared(subject, lambda image: preprocess(image, other))

    return change


def bgr(subject: Subject) -> Subject:
    def prepare(image: Pixels) -> Tensor:
        return np.ascontiguousarray(preprocess(image, subject.transform)[::-1])

    return prepared(subject, prepare)


def with_nms(**changes: object) -> Change:
    def change(subject: Subject) -> Subject:
        nms = replace(subject.config.nms, **changes)  # type: ignore[arg-type]
        finish = DETECTION_TASK.finishing.make(nms)
        return replace(subject, candidate=replace(subject.candidate, finish=finish))

    return change


def softmax_twice(subject: Subject) -> Subject:
    once = subject.candidate.finish

    def finish(answer: Batch) -> list[Batch]:
        return list(once(np.stack(list(once(answer)))))

    return replace(subject, candidate=replace(subject.candidate, finish=finish))


class TestBudget:
    @pytest.mark.parametrize(
        ("stage", "guilty", "change"),
        [
            ("classification", "preprocess", bgr),
            ("classification", "preprocess", with_prepare(interpolation="nearest")),
            ("classification", "preprocess", with_prepare(mean=(0.4, 0.4, 0.4))),
            ("classification", "softmax", softmax_twice),
            ("detection", "preprocess", bgr),
            ("detection", "preprocess", with_prepare(pad_value=0)),
            ("detection", "nms", with_nms(conf_threshold=0.7)),
            ("detection", "nms", with_nms(max_detections=1)),
        ],
    )
    def test_stage_that_was_swapped_has_nearly_all(
        self,
        subject_of: MakeSubject,
        files: dict[str, Path],
        stage: str,
        guilty: str,
        change: Change,
    ) -> None:
        model = onnx.load(files[stage])
        subject = subject_of(stage, files[stage], 1 if stage == "detection" else 3)
        budget = error_budget(change(subject), model, model)
        assert budget.percent is not None
        assert budget.percent[guilty] >= 80, budget.percent

    @pytest.mark.parametrize(
        ("node", "part", "guilty"),
        [
            ("/model.4/cv1/conv/Conv", "output", "network"),
            ("/model.23/cv3.1/cv3.1.2/Conv", "weight", "network"),
            ("/decode/reach/Mul", "output", "decode"),
            ("/model.23/Mul_5", "output", "decode"),
        ],
    )
    def test_network_and_decoding_are_told_apart(
        self,
        subject_of: MakeSubject,
        files: dict[str, Path],
        save: Callable[[onnx.ModelProto], Path],
        node: str,
        part: str,
        guilty: str,
    ) -> None:
        healthy = onnx.load(files["detection"])
        bad = inject(healthy, NodeFault(node, part))
        budget = error_budget(subject_of("detection", save(bad), 1), bad, healthy)
        assert budget.percent is not None
        assert list(budget.percent) == ["preprocess", "network", "decode", "nms"]
        assert budget.percent[guilty] >= 80, budget.percent


class TestBothStages:
    def test_healthy_pipelines_differ_by_noise(
        self, subject_of: MakeSubject, files: dict[str, Path]
    ) -> None:
        model = onnx.load(files["detection"])
        both = (subject_of(stage, files[stage], 2) for stage in ("detection", "classification"))
        budget = pipeline_budget(*both, model, model)
        assert 0 < budget.total < 1e-2
        assert budget.percent is not None
        assert budget.percent["nms"] == budget.percent["crop"] == budget.percent["softmax"] == 0

    def test_photos_without_pills_have_no_names(
        self, subject_of: MakeSubject, files: dict[str, Path]
    ) -> None:
        detector = subject_of("detection", files["detection"], 1)
        blank = replace(detector, images=(np.full((64, 64, 3), 114, np.uint8),))
        classifier = subject_of("classification", files["classification"], 1)
        assert pipeline_budget(blank, classifier).percent is None

    def test_of_many_boxes_the_surest_are_named(
        self, subject_of: MakeSubject, files: dict[str, Path]
    ) -> None:
        fed = []

        def count(image: Pixels) -> Tensor:
            fed.append(image.shape)
            return preprocess(image, classifier.transform)

        config = subject_of("detection", files["detection"], 1).config
        finish = DETECTION_TASK.finishing.make(replace(config.nms, conf_threshold=0.0))
        classifier = subject_of("classification", files["classification"], 1)
        side = replace(classifier.candidate, prepare=count)
        detector = subject_of("detection", files["detection"], 1)
        crowded = replace(
            detector,
            reference=replace(detector.reference, finish=finish),
            candidate=replace(detector.candidate, finish=finish),
        )
        pipeline_budget(crowded, replace(classifier, candidate=side))
        assert len(fed) == 2 * NAMED  # by the detector of either side

    def test_crops_count(self, subject_of: MakeSubject, files: dict[str, Path]) -> None:
        both = [subject_of(stage, files[stage], 2) for stage in ("detection", "classification")]
        budget = pipeline_budget(*both, crop=lambda image, box: crop_box(image, box, 0.3))
        assert budget.percent is not None
        assert budget.percent["crop"] > 95


class TestWhole:
    def test_diagnosis_is_plain_and_its_script_needs_nothing_of_the_project(
        self,
        subject_of: MakeSubject,
        files: dict[str, Path],
        exports: FreshExports,
        save: Callable[[onnx.ModelProto], Path],
        tmp_path: Path,
    ) -> None:
        path = save(scaled_head(onnx.load(files["classification"])))
        subject = subject_of("classification", path)
        found = diagnose(subject, exports, tmp_path / "repro")
        assert json.loads(json.dumps(found)) == found
        assert found["problems"] == []
        assert found["layers"]["places"][0]["node"] == "/fc/Gemm"
        assert found["budget"]["percent"] == {"preprocess": 0, "network": 100, "softmax": 0}
        assert found["budget"]["unit"] == "of probability an image"
        assert found["causes"]["kind"] == "weights"
        done = subprocess.run(
            [sys.executable, "-I", found["repro"]],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        lines = done.stdout.splitlines()
        assert [line.split(":")[0] for line in lines] == list(subject.ids)
        wanted = np.abs(
            subject.candidate.answer(subject.images) - subject.reference.answer(subject.images)
        ).max(axis=1)
        shown = [float(line.split("difference ")[1].split(" ")[0]) for line in lines]
        np.testing.assert_allclose(shown, wanted, rtol=1e-3)

    def test_a_part_that_fails_is_noted_and_the_others_go_on(
        self, subject_of: MakeSubject, files: dict[str, Path], config: Config, tmp_path: Path
    ) -> None:
        nowhere = replace(config, paths=replace(config.paths, exp_dir=tmp_path))
        subject = replace(subject_of("classification", files["classification"]), config=nowhere)
        blocked = tmp_path / "file"
        blocked.write_text("")
        with FreshExports(nowhere) as exports:
            found = diagnose(subject, exports, blocked)
        assert found["repro"] is None
        assert found["budget"] is not None
        assert found["problems"][0] == "fresh export: there is no classification checkpoint"
        assert found["problems"][-1].startswith("repro: cannot write")
