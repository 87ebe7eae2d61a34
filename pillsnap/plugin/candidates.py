"""The files that `--candidate` names, held to the engines that are to run them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pillsnap.compare.tasks import task_names
from pillsnap.core.errors import ConfigError
from pillsnap.core.modelfiles import IR, model_files, named_model
from pillsnap.core.textfiles import is_file
from pillsnap.engines import EXPORTED, Entry, entries

_FILES = "an .onnx file, or OpenVINO's .xml with its .bin, or their folder"


def read_candidates(texts: Sequence[str]) -> dict[str, Path]:
    """The file of every stage; ConfigError where one is not there, or a stage has two."""
    found: dict[str, Path] = {}
    for text in texts:
        stage, equals, name = text.partition("=")
        path = named_model(Path(name).expanduser())
        if not equals or stage not in task_names():
            raise ConfigError(
                "--candidate takes STAGE=PATH",
                where="--candidate",
                got=text,
                expected=f"STAGE one of {', '.join(task_names())}, PATH {_FILES}",
            )
        missing = [each.name for each in model_files(path) if not is_file(each)]
        if missing:
            beside = f" (no {missing[0]} beside it)" if path.name not in missing else ""
            raise ConfigError(
                "there is no such candidate",
                where="--candidate",
                got=text + beside,
                expected=_FILES,
            )
        if stage in found:
            raise ConfigError(
                f"there are two candidates of {stage}",
                where="--candidate",
                got=text,
                expected="one file for a stage",
                hint="verify the other in a run of its own",
            )
        found[stage] = path.resolve()
    return found


def require_engines(candidates: Mapping[str, Path], engines: Sequence[Entry]) -> None:
    """Refuse, by a ConfigError, a candidate that none of the engines opens, and one of a kind that
    another does not."""
    for stage, path in candidates.items():
        got = f"{stage}={path}"
        if not any(engine.takes_exports for engine in engines):
            raise ConfigError(
                f"engine {engines[0].name} compares the checkpoint with itself and takes no "
                "candidate",
                where="--candidate",
                got=got,
                hint="use --engine onnx, or leave the candidate out",
            )
        wrong = [each.name for each in engines if path.suffix == IR not in each.suffixes]
        if wrong:
            able = [each.name for each in entries() if IR in each.suffixes]
            raise ConfigError(
                f"engine {wrong[0]} does not open graphs of OpenVINO",
                where="--candidate",
                got=got,
                expected=f"an {EXPORTED} file, or engine {' or '.join(able)}",
                hint=f"use --engine {able[0]}",
            )
