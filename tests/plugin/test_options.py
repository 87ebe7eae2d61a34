"""The gate's options: what they select, and what they refuse."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pillsnap.config.selection import Selection
from pillsnap.core.errors import ConfigError, PillsnapError
from pillsnap.plugin.options import asks_for_gate, select
from pillsnap.plugin.repeating import repeat_command
from pillsnap.plugin.state import GATE_OPTIONS


def choose(**options: Any) -> Selection:
    given: dict[str, Any] = dict.fromkeys(GATE_OPTIONS)
    flags = ["fresh_export", "gate_strict", "no_reference_cache", "diagnose", "fail_on_regression"]
    flags += ["sensitivity", "compare_calibration"]
    return select(argparse.Namespace(**{**given, **dict.fromkeys(flags, False), **options}))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"")
    return path


def test_without_options_both_stages_in_onnx_auto_fp32() -> None:
    chosen = choose()
    assert chosen == Selection()
    assert chosen.stages == ("detection", "classification")
    assert (chosen.engines, chosen.providers, chosen.precisions) == (
        ("onnx",),
        ("auto",),
        ("fp32",),
    )
    assert not chosen.candidates
    assert not chosen.fresh_export
    assert not chosen.gate_strict
    assert chosen.reference_cache


def test_what_the_reference_answered_need_not_be_remembered() -> None:
    assert choose(no_reference_cache=False) == choose()
    assert choose(no_reference_cache=True).reference_cache is False


def test_options_repeat_and_repetitions_fall_away(model: Path) -> None:
    chosen = choose(
        engine=["torch", "onnx", "torch"],
        provider=["cuda", "cpu", "cuda"],
        precision=["int8", "fp32", "int8"],
        stage=["classification", "classification"],
        candidate=[f"classification={model}"],
        fresh_export=True,
    )
    assert chosen.engines == ("torch", "onnx")
    assert chosen.providers == ("cuda", "cpu")
    assert chosen.precisions == ("int8", "fp32")
    assert chosen.stages == ("classification",)
    assert chosen.candidates == {"classification": model}
    assert chosen.fresh_export


def test_torch_alone_takes_no_candidate(model: Path) -> None:
    with pytest.raises(ConfigError, match="takes no candidate"):
        choose(engine=["torch"], candidate=[f"classification={model}"])


@pytest.mark.parametrize(
    ("name", "option", "choices"),
    [
        ("engine", "--engine", ("onnx", "tensorrt", "torch")),
        ("provider", "--provider", ("auto", "cpu", "cuda", "tensorrt")),
        ("precision", "--precision", ("fp32", "fp16", "int8")),
        ("stage", "--stage", ("detection", "classification")),
    ],
)
def test_an_unknown_choice_is_refused_with_the_choices(
    name: str, option: str, choices: Sequence[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        choose(**{name: [choices[0], "wrong"]})
    message = str(caught.value)
    assert option in message
    assert "wrong" in message
    assert all(choice in message for choice in choices)


def test_engine_tensorrt_refuses_another_provider() -> None:
    for providers in (None, ["tensorrt"]):
        assert choose(engine=["tensorrt"], provider=providers).engines == ("tensorrt",)
    for providers in (["cpu"], ["tensorrt", "cuda"]):
        with pytest.raises(ConfigError, match=r"(?s)tensorrt alone.*--provider"):
            choose(engine=["tensorrt"], provider=providers)
    assert choose(engine=["onnx"], provider=["cpu", "tensorrt"])


def test_a_method_of_int8_needs_int8() -> None:
    for method in ("static", "dynamic", "auto"):
        assert choose(precision=["int8"], int8_method=method).int8_method == method
        with pytest.raises(ConfigError, match=r"(?s)got: +" + method + ".*add --precision int8"):
            choose(precision=["fp16"], int8_method=method)
    assert choose(precision=["int8"]).int8_method is None
    with pytest.raises(ConfigError, match="static, dynamic, auto"):
        choose(precision=["int8"], int8_method="fast")


def test_sensitivity_is_of_files_that_are_made_here(model: Path) -> None:
    chosen = choose(precision=["fp16", "int8"], sensitivity=True, compare_calibration=True)
    assert chosen.sensitivity and chosen.compare_calibration
    with pytest.raises(ConfigError, match="made here, and none is"):
        choose(sensitivity=True)
    named = {"stage": ["classification"], "candidate": [f"classification={model}"]}
    with pytest.raises(ConfigError, match="made here, and none is"):
        choose(precision=["int8"], sensitivity=True, **named)
    for options in ({"precision": ["int8"]}, {"precision": ["fp16"], "sensitivity": True}):
        with pytest.raises(ConfigError, match="adds a table"):
            choose(compare_calibration=True, **options)


@pytest.mark.parametrize("text", ["model.onnx", "pose=model.onnx", "=model.onnx", ""])
def test_a_candidate_must_name_its_stage(text: str) -> None:
    with pytest.raises(ConfigError, match=r"(?s)STAGE=PATH.*detection, classification"):
        choose(candidate=[text])


def test_a_candidate_must_be_a_file(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "gone.onnx", "x" * 300, ""):
        with pytest.raises(ConfigError, match="no such candidate"):
            choose(candidate=[f"detection={path}"])


def test_a_candidates_path_is_made_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a=b.onnx").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for text in ("detection=a=b.onnx", "detection=~/a=b.onnx"):
        assert choose(candidate=[text]).candidates == {"detection": tmp_path / "a=b.onnx"}


def test_a_candidate_that_would_not_be_verified_is_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="leaves out the candidate of classification"):
        choose(stage=["detection"], candidate=[f"classification={model}"])
    other = tmp_path / "other.onnx"
    other.write_bytes(b"")
    with pytest.raises(ConfigError, match="two candidates of detection"):
        choose(candidate=[f"detection={model}", f"detection={other}"])


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("smoke", True),
        ("coverage", True),
        ("full", True),
        ("smoke or coverage", True),
        ("smoke and not slow", True),
        ("slow or full", True),
        (" (smoke) ", True),
        ("", False),
        ("not (coverage or full or slow)", False),
        ("not smoke", False),
        ("not smoke and not coverage and not full", False),
        ("not slow", False),
        ("slow", False),
        ("proof", False),
        ("smoked or fullness", False),
        ("smoke and coverage", False),
        ("smoke and not (smoke or slow)", False),
        ("smoke or not smoke", False),
        ("smoke and", False),
        ("slow(reason='smoke')", False),
    ],
)
def test_a_marker_expression_asks_for_the_gate(expression: str, expected: bool) -> None:
    assert asks_for_gate(expression) is expected


def test_the_command_repeats_the_selection(tmp_path: Path) -> None:
    folder = tmp_path / "two words"
    folder.mkdir()
    model = folder / "model.onnx"
    model.write_bytes(b"")
    chosen = choose(
        engine=["torch", "onnx"],
        provider=["cpu"],
        precision=["fp32", "int8"],
        stage=["detection"],
        candidate=[f"detection={model}"],
        int8_method="auto",
        gate_strict=True,
        against=str(folder),
        fail_on_regression=True,
    )
    words = shlex.split(repeat_command(chosen, "smoke and not slow", 3, folder / "config.yaml"))
    assert words[:3] == ["pytest", "-m", "smoke and not slow"]
    # A path by itself would be a place to look for tests.
    assert f"--config={folder / 'config.yaml'}" in words
    parser = argparse.ArgumentParser()
    parser.add_argument("--config")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--gate-strict", action="store_true")
    parser.add_argument("--against")
    parser.add_argument("--fail-on-regression", action="store_true")
    parser.add_argument("--int8-method")
    for option in ("--stage", "--engine", "--provider", "--precision", "--candidate"):
        parser.add_argument(option, action="append")
    found = parser.parse_args(words[3:])
    assert (found.config, found.threads) == (str(folder / "config.yaml"), 3)
    again = choose(
        engine=found.engine,
        provider=found.provider,
        precision=found.precision,
        stage=found.stage,
        candidate=found.candidate,
        int8_method=found.int8_method,
        gate_strict=found.gate_strict,
        against=found.against,
        fail_on_regression=found.fail_on_regression,
    )
    assert again == chosen
    assert (again.against, again.fail_on_regression) == (folder, True)
    assert "--gate-strict" not in repeat_command(choose(), "smoke", 3, folder / "config.yaml")


def test_a_regression_needs_an_earlier_report_that_is_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="add --against=REPORT"):
        choose(fail_on_regression=True)
    with pytest.raises(ConfigError, match="no such report, nor a folder"):
        choose(against=str(tmp_path / "nowhere.json"))
    with pytest.raises(ConfigError, match="no such report, nor a folder"):
        choose(against="")
    half = tmp_path / "half.json"
    half.write_text('{"cells": [')
    with pytest.raises(PillsnapError, match=f"(?s)this is no report.*{half}"):
        choose(against=str(half))
    # Neither is part of what a run is of, by which --resume finds it.
    assert repr(choose(against=str(tmp_path), fail_on_regression=True)) == repr(choose())


@pytest.mark.parametrize("engines", [["tensorrt"], ["onnx", "tensorrt"]])
def test_the_command_repeats_tensorrt(engines: list[str]) -> None:
    chosen = choose(engine=engines, provider=None)
    words = shlex.split(repeat_command(chosen, "smoke", 1, Path("config.yaml")))
    assert "--provider" not in words
    assert [words[i + 1] for i, word in enumerate(words) if word == "--engine"] == engines


def test_a_layout_is_of_a_candidate_and_one_that_there_is(model: Path) -> None:
    chosen = choose(candidate=[f"detection={model}"], layout=["detection=output0-transposed"])
    assert chosen.layouts == {"detection": "output0-transposed"}
    command = repeat_command(chosen, "smoke", 1, Path("config.yaml"))
    assert "--layout detection=output0-transposed" in command
    assert repr(chosen) != repr(choose(candidate=[f"detection={model}"]))  # of another run's key
    for text, words in (
        ("classification=logits", "expected: STAGE=NAME"),
        ("detection=logits", "detection has no such layout"),
        ("detection", "detection has no such layout"),
    ):
        with pytest.raises(ConfigError, match=f"(?s){words}"):
            choose(candidate=[f"detection={model}"], layout=[text])
