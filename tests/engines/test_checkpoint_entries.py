"""Several weights in one checkpoint: which are taken, how to choose, and where that is said."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pillsnap.config.cells import Cell
from pillsnap.config.settings import Classification, Detection
from pillsnap.core.arraycache import ArrayCache
from pillsnap.core.errors import CheckpointError, WrongCandidate
from pillsnap.engines.protocol import Reference, Request
from pillsnap.engines.torch import engine
from pillsnap.engines.torch.timm_models import load_classifier
from pillsnap.engines.torch.yolo import load_detector
from pillsnap.export import describe_onnx, export_classification_onnx, export_detection_onnx
from pillsnap.export.provenance import require_fit
from tests.small_models import Experiment, make_classifier, make_detector, save_detector

State = dict[str, Any]
FILE = "classification_best.pt"
CELL = Cell("classification", "onnx", "cpu", "fp32", "smoke")


def scaled(state: State, by: float) -> State:
    return {k: v * by if k == "fc.weight" else v for k, v in state.items()}


def chosen(content: object, path: Path, entry: str | None) -> tuple[float, str, tuple[str, ...]]:
    """The first weight of the head that was loaded over the trained one; the entries."""
    torch.save(content, path)
    loaded = load_classifier(Classification("test_resnet", 5, checkpoint_entry=entry), path)
    trained = make_classifier().state_dict()["fc.weight"].flatten()[0]
    weight = loaded.module.state_dict()["fc.weight"].flatten()[0]
    return round(float(weight / trained), 3), loaded.origin.entry, loaded.origin.entries


def two(state: State) -> dict[str, Any]:
    return {"epoch": 4, "state_dict": state, "state_dict_ema": scaled(state, 2), "optimizer": {}}


def student(state: State) -> dict[str, Any]:
    """Lightning's, of a network and its teacher."""
    beside = {f"teacher.{key}": value for key, value in scaled(state, 2).items()}
    return {"state_dict": {**{f"student.{key}": value for key, value in state.items()}, **beside}}


EMA = ("state_dict_ema", "state_dict")
TAUGHT = ("state_dict.student", "state_dict.teacher")
CHOICES: list[tuple[Callable[[State], object], str | None, tuple[float, str, tuple[str, ...]]]] = [
    (two, None, (2, "state_dict_ema", EMA)),
    (two, "state_dict", (1, "state_dict", EMA)),
    (two, "state_dict_ema", (2, "state_dict_ema", EMA)),
    (student, "state_dict.teacher", (2, "state_dict.teacher", TAUGHT)),
    (student, "state_dict.student", (1, "state_dict.student", TAUGHT)),
    (lambda state: state, None, (1, "", ())),
    (lambda state: {"net": state, "acc": 0.9}, "net", (1, "net", ("net",))),
    (
        lambda state: {"ema": {"module": state}, "best": {"model": scaled(state, 2)}},
        "best.model",
        (2, "best.model", ("ema.module", "best.model")),
    ),
]


@pytest.mark.parametrize(("make", "entry", "expected"), CHOICES)
def test_config_chooses_and_averaged_weights_come_first(
    make: Callable[[State], object], entry: str | None, expected: object, tmp_path: Path
) -> None:
    assert chosen(make(make_classifier().state_dict()), tmp_path / "c.pt", entry) == expected


@pytest.mark.parametrize(
    ("make", "entry", "words"),
    [
        (two, "ema", ("checkpoint_entry: ema", "expected: state_dict_ema, state_dict")),
        (student, None, ("student., teacher.", "to one of state_dict.student, state_dict.teacher")),
        (student, "state_dict", ("expected: state_dict.student, state_dict.teacher",)),
        (lambda state: state, "ema", ("null: its weights stand by themselves",)),
        (lambda state: {"net": state}, None, ("got: net", "classification.checkpoint_entry: net")),
    ],
)
def test_a_wrong_entry_lists_those_that_are_there(
    make: Callable[[State], object], entry: str | None, words: tuple[str, ...], tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError) as caught:
        chosen(make(make_classifier().state_dict()), tmp_path / "c.pt", entry)
    text = " ".join(str(caught.value).split())
    assert all(each in text for each in words) and "classification.checkpoint_entry" in text


def test_a_detectors_average_and_the_weights_beside_it(tmp_path: Path) -> None:
    average = make_detector("yolo11n", 1)
    plain = copy.deepcopy(average)
    torch.nn.init.zeros_(plain.model[0].conv.weight)
    path = save_detector(average, tmp_path / "d.pt", model=plain)
    for entry, taken in ((None, "ema"), ("ema", "ema"), ("model", "model")):
        loaded = load_detector(Detection("yolo11n", 1, checkpoint_entry=entry), path)
        assert (loaded.origin.entry, loaded.origin.entries) == (taken, ("ema", "model"))
        weight = loaded.module.state_dict()["model.model.0.conv.weight"]
        assert bool(weight.any()) is (taken == "ema")
    with pytest.raises(CheckpointError, match="expected: ema, model") as caught:
        load_detector(Detection("yolo11n", 1, checkpoint_entry="state_dict"), path)
    assert "detection.checkpoint_entry" in str(caught.value)


def test_the_choice_is_said_of_the_reference_and_remembered_by_itself(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = experiment(backbone="test_resnet")
    torch.save(two(make_classifier().state_dict()), config.exp_dir / "checkpoints" / FILE)
    cache = ArrayCache(tmp_path / "cache", 2**20)

    def opened(entry: str | None) -> Reference:
        settings = replace(config.classification, checkpoint_entry=entry)
        changed = replace(config, classification=settings)
        return engine.open_reference(Request(changed, CELL, threads=1, cache=cache))

    keys = set()
    for again in range(2):
        for entry, other in ((None, "state_dict"), ("state_dict", "state_dict_ema")):
            reference = opened(entry)
            keys.add(reference.key)
            info, taken = reference.engine.info, entry or "state_dict_ema"
            assert info["checkpoint_entry"] == taken
            (note,) = info["notes"]
            assert note == f"classification: {info['checkpoint_choice']}"
            assert f"weights of the checkpoint's {taken}, beside {other};" in note
        if not again:  # the next time nothing is loaded
            monkeypatch.setattr(engine, "build_model", None)
    assert len(keys) == 2


def test_an_export_says_it_and_is_held_to_it(experiment: Experiment) -> None:
    config = experiment(backbone="test_resnet")
    torch.save(two(make_classifier().state_dict()), config.exp_dir / "checkpoints" / FILE)
    found = describe_onnx(export_classification_onnx(config).path, "classification")
    assert found.metadata["pillsnap.checkpoint_entry"] == "state_dict_ema"
    require_fit(found, config, "classification", checkpoint_entry="state_dict_ema")
    with pytest.raises(WrongCandidate, match="checkpoint_entry state_dict_ema"):
        require_fit(found, config, "classification", checkpoint_entry="state_dict")
    del found.metadata["pillsnap.checkpoint_entry"]  # as an earlier version wrote it
    require_fit(found, config, "classification", checkpoint_entry="state_dict")
    settings = replace(config.classification, checkpoint_entry="state_dict")
    other = export_classification_onnx(replace(config, classification=settings))
    assert not other.reused and other.sha256 != found.sha256


def test_a_detectors_export_says_it(experiment: Experiment) -> None:
    config = experiment("yolo11n")
    assert export_detection_onnx(config).metadata["pillsnap.checkpoint_entry"] == "ema"


def test_compiled_weights_beside_others_are_two_sets(tmp_path: Path) -> None:
    """None is the last that was written."""
    state = make_classifier("test_resnet", 5).state_dict()
    other = {f"_orig_mod.{name}": torch.zeros_like(value) for name, value in state.items()}
    path = tmp_path / "best.pt"
    for both in ({**state, **other}, {**other, **state}):
        torch.save(both, path)
        with pytest.raises(CheckpointError, match="several times"):
            load_classifier(Classification("test_resnet", 5), path)
    torch.save(other, path)
    assert load_classifier(Classification("test_resnet", 5), path).module


def test_numbers_of_another_kind_are_no_weights(tmp_path: Path) -> None:
    state = make_classifier("test_resnet", 5).state_dict()
    name = next(name for name, value in state.items() if value.is_floating_point())
    path = tmp_path / "best.pt"
    torch.save({**state, name: state[name].to(torch.int8)}, path)
    with pytest.raises(CheckpointError, match=r"of torch\.int8 instead of torch\.float32"):
        load_classifier(Classification("test_resnet", 5), path)
