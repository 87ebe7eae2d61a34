"""Command-line options of the gate, checked where they are read. Knows nothing of pytest."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from pillsnap.engines import engine_names
from pillsnap.errors import ConfigError
from pillsnap.matrix import MODES, PRECISIONS, PROVIDERS, STAGES
from pillsnap.run import Selection

DEFAULT_MARKERS = "not (coverage or full or slow)"
"""What pytest.ini passes as -m when the user passes none."""


def asks_for_gate(marker_expression: str) -> bool:
    """Whether a -m of the user names a gate mode."""
    words = re.findall(r"\w+", marker_expression)
    return marker_expression != DEFAULT_MARKERS and any(mode in words for mode in MODES)


def select(
    *,
    engines: Sequence[str] | None,
    providers: Sequence[str] | None,
    precisions: Sequence[str] | None,
    stages: Sequence[str] | None,
    candidates: Sequence[str] | None,
    fresh_export: bool,
) -> Selection:
    """The selection that the options ask for; None means not given.

    Raises:
        ConfigError: a value is not one of the choices, or two options exclude each other.
    """
    default = Selection()
    chosen = Selection(
        stages=_choices("--stage", stages, STAGES) or default.stages,
        engines=_choices("--engine", engines, engine_names()) or default.engines,
        providers=_choices("--provider", providers, PROVIDERS) or default.providers,
        precisions=_choices("--precision", precisions, PRECISIONS) or default.precisions,
        candidates=dict(_candidate(text) for text in candidates or ()),
        fresh_export=fresh_export,
    )
    other = [name for name in providers or () if name != "tensorrt"]
    if "tensorrt" in chosen.engines and other:
        raise ConfigError(
            "engine tensorrt runs on provider tensorrt alone",
            where="--provider",
            got=", ".join(other),
            expected="tensorrt, or no --provider",
            hint=f"use --engine onnx --provider {other[0]}",
        )
    for stage in chosen.stages:
        made = [name for name in chosen.precisions if name != "fp32"]
        if made and stage not in chosen.candidates:
            raise ConfigError(
                f"there is no {made[0]} file of {stage} to verify",
                where="--precision",
                got=made[0],
                expected="fp32, or a file made elsewhere",
                hint=f"--candidate {stage}=PATH names one; --stage leaves the other stage out",
            )
    return chosen


def thread_count(option: int | None, workers: int) -> int:
    """Threads per process: the option, else this process's cores divided by the workers."""
    if option is None:
        return max(1, len(os.sched_getaffinity(0)) // max(1, workers))
    if option < 1:
        raise ConfigError(
            "--threads must be a positive number",
            where="--threads",
            got=option,
            expected="1 or more",
        )
    return option


def repeat_command(selection: Selection, markers: str, threads: int, config: Path) -> str:
    """The command that repeats a run's cells, whatever workers they ran on."""
    words = ["pytest", "-m", markers]
    for option, values in (
        ("--stage", selection.stages),
        ("--engine", selection.engines),
        ("--provider", selection.providers),
        ("--precision", selection.precisions),
        ("--candidate", [f"{stage}={path}" for stage, path in selection.candidates.items()]),
    ):
        for value in values:
            # TensorRT's provider goes without saying, and saying another is refused.
            if not (option == "--provider" and "tensorrt" in selection.engines):
                words += [option, value]
    words += ["--threads", str(threads), "--config", str(config)]
    return shlex.join(words)


def _choices(
    option: str, values: Sequence[str] | None, choices: Sequence[str]
) -> tuple[str, ...] | None:
    for value in values or ():
        if value not in choices:
            raise ConfigError(
                f"{option} has no such choice", where=option, got=value, expected=", ".join(choices)
            )
    return tuple(dict.fromkeys(values)) if values else None


def _candidate(text: str) -> tuple[str, Path]:
    stage, equals, name = text.partition("=")
    path = Path(name).expanduser()
    if not equals or stage not in STAGES:
        raise ConfigError(
            "--candidate takes STAGE=PATH",
            where="--candidate",
            got=text,
            expected=f"STAGE one of {', '.join(STAGES)}, PATH an .onnx file",
        )
    if not path.is_file():
        raise ConfigError(
            "there is no such candidate", where="--candidate", got=text, expected="an .onnx file"
        )
    return stage, path.resolve()
