"""The proof on models that are not the demo's: other architectures, sizes, numbers of classes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
import yaml

from pillsnap.config.cells import STAGES
from pillsnap.config.load import load_config
from pillsnap.config.settings import Config
from pillsnap.engines.onnxruntime.sessions import open_session
from pillsnap.proof.catalogue import FAULTS
from pillsnap.proof.fault import Bench, Injection, NotApplicable
from pillsnap.proof.healthy import HEALTHY, settle_batchnorm
from pillsnap.proof.runtime import restamped
from pillsnap.proof.stage_faults import STAGE_FAULTS
from pillsnap.proof.trial import (
    caught_by,
    judge_injection,
    make_bench,
    proof_config,
    proven_stages,
    try_fault,
)
from tests.small_models import make_classifier, make_detector, save_detector

ROOT = Path(__file__).resolve().parents[2]

CLASSES = 3
SIDE, IMAGE = 160, (128, 192)

# What a model has nothing of: a transformer no BatchNorm and no stride with padding, this detector
# no softmax over distances.
LACKING = {
    ("test_vit", "yolo26n"): {
        "classification-batch_statistics",
        "classification-other_epsilon",
        "classification-same_padding",
        "classification-train_mode",
    },
    ("test_efficientnet", "yolov8n"): set(),
}


def make_project(folder: Path, demo: Config, backbone: str, detector: str) -> Path:
    """config.yaml of a project with random weights and a few of the demo's images; squeezed photos,
    ImageNet's mean, another suppression."""
    checkpoints = folder / "exp" / "checkpoints"
    checkpoints.mkdir(parents=True)
    network = make_detector(detector, CLASSES)
    save_detector(network, checkpoints / "detection_best.pt")
    classifier = make_classifier(backbone, CLASSES)
    settle_batchnorm(classifier, [torch.randn(8, 3, SIDE, SIDE).numpy()])
    torch.save(classifier.state_dict(), checkpoints / "classification_best.pt")
    single, combo = demo.data.val.single, demo.data.val.combo
    assert single is not None
    assert combo is not None
    assert combo.labels is not None
    codes = sorted(path.name for path in single.iterdir())[:CLASSES]
    for code in codes:
        (folder / "single" / code).mkdir(parents=True)
        for photo in sorted((single / code).iterdir())[:4]:
            shutil.copy(photo, folder / "single" / code)
    (folder / "images").mkdir()
    (folder / "labels").mkdir()
    for scene in sorted(combo.images.iterdir())[:4]:
        shutil.copy(scene, folder / "images")
        shutil.copy(combo.labels / f"{scene.stem}.txt", folder / "labels")
    (folder / "map.json").write_text(json.dumps({code: i for i, code in enumerate(codes)}))
    settings: dict[str, Any] = {
        "paths": {"exp_dir": "exp"},
        "data": {
            "val": {"single": "single", "combo": {"images": "images", "labels": "labels"}},
            "class_map": "map.json",
        },
        "detection": {"model": detector, "num_classes": CLASSES},
        "classification": {
            "backbone": backbone,
            "num_classes": CLASSES,
            "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225],
            "interpolation": "bilinear",
            "crop_pct": 0.875,
            "crop_mode": "squash",
        },
        "export": {
            "input_shape": {
                "detection": [1, 3, *IMAGE],
                "classification": [1, 3, SIDE, SIDE],
            },
            "postprocess": {"nms": {"iou_threshold": 0.9, "class_agnostic": True}},
        },
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(pair, marks=[pytest.mark.slow] * bool(index), id="-".join(pair))
        for index, pair in enumerate(LACKING)
    ],
)
def models(request: pytest.FixtureRequest) -> tuple[str, str]:
    pair: tuple[str, str] = request.param
    return pair


@pytest.fixture(scope="module")
def others(
    models: tuple[str, str], config: Config, tmp_path_factory: pytest.TempPathFactory
) -> Config:
    return load_config(make_project(tmp_path_factory.mktemp("other"), config, *models), {})


def bench_of(config: Config, stage: str, folder: Path) -> Bench:
    return make_bench(proof_config(config, stage, config.exp_dir / "healthy"), stage, folder)


def test_every_fault_finds_what_it_breaks_or_says_why_not(
    models: tuple[str, str], others: Config, tmp_path: Path
) -> None:
    lacking = set()
    for fault in FAULTS:
        bench = bench_of(others, fault.stage, tmp_path / fault.id)
        try:
            injection = fault.inject(bench)
        except NotApplicable as error:
            assert str(error)
            lacking.add(fault.id)
            continue
        if injection.file is not None and injection.say is None:
            broken = onnx.load(injection.file)
            assert broken != bench.model(), fault.id
            if fault.name == "half_arithmetic":  # in an order that ONNX Runtime alone takes
                open_session(injection.file, "cpu", 1)
            else:
                onnx.checker.check_model(broken)
        else:
            assert injection != Injection(), fault.id
    assert lacking == LACKING[models] | {"classification-stretch_for_centre_crop"}


def test_a_reference_without_signal_is_no_catch_by_itself(others: Config, tmp_path: Path) -> None:
    bench = bench_of(others, "classification", tmp_path / "bench")
    healthy = judge_injection(restamped(bench), bench, "smoke", threads=1)["strict"]
    assert (healthy.verdict.name, caught_by(healthy)) == ("inconclusive", ())
    fault = next(f for f in FAULTS if f.id == "classification-scaled_twice")
    strict, _ = try_fault(fault, bench, "smoke", threads=1)
    # How exact a candidate is needs no signal.
    assert strict.verdict == "breach"
    assert strict.caught
    assert "logits_exactness" in strict.figures


def test_a_fault_that_changes_nothing_of_these_images_is_none(
    others: Config, tmp_path: Path
) -> None:
    bench = bench_of(others, "classification", tmp_path / "bench")
    same = Injection(see=lambda samples, batch: batch.copy())
    assert judge_injection(same, bench, "smoke", threads=1)
    with pytest.raises(NotApplicable, match="differs"):
        judge_injection(same, bench, "coverage", threads=1)


@pytest.mark.slow
def test_the_whole_proof_runs_on_another_configuration(
    demo: Config, models: tuple[str, str], tmp_path: Path
) -> None:
    path = make_project(tmp_path, demo, *models)
    command = ["-m", "pytest", "-q", "-m", "proof", f"--config={path}", "-p", "no:cacheprovider"]
    found = subprocess.run(
        [sys.executable, *command, "tests/proof"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode in (0, 1), found.stdout
    report = json.loads((tmp_path / "exp/export/proof_report.json").read_text())
    assert report["complete"]
    assert report["stages"] == list(STAGES)
    untried = Counter(each["kind"] for each in report["inapplicable"])
    assert report["faults"] == len(FAULTS) - untried["trial"]
    assert report["caught_strict"] > report["faults"] // 2
    assert report["healthy"] == len(HEALTHY)
    assert report["false_alarms"] == 0
    assert report["stage_faults"] == len(STAGE_FAULTS) - untried["staged"]


def test_a_stage_without_a_checkpoint_is_left_out(others: Config, tmp_path: Path) -> None:
    assert set(proven_stages(others)) == set(STAGES)
    alone = replace(others, paths=replace(others.paths, exp_dir=tmp_path))
    assert proven_stages(alone) == ()
