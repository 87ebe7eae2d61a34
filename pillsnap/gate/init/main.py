"""The command `pillsnap init`."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from pillsnap.config.cells import STAGES
from pillsnap.core.errors import ConfigError, PillsnapError
from pillsnap.core.files import write_atomic
from pillsnap.core.printable import printable
from pillsnap.gate.init.classifier import add_classifier
from pillsnap.gate.init.detector import add_detector
from pillsnap.gate.init.draft import Draft
from pillsnap.gate.init.lines import MARK
from pillsnap.gate.init.workflow import WORKFLOW, add_workflow


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0; 2 for wrong arguments, checkpoints or data, or a file that is there already."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if not (arguments.detector or arguments.classifier or arguments.github):
        parser.error("name a model: --detector best.pt, --classifier best.pth, or both")
    try:
        _init(arguments)
    except ImportError as error:
        print(f"error: {error}: pip install 'pillsnap[torch]'", file=sys.stderr)
        return 2
    except PillsnapError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pillsnap init",
        description="Write a config.yaml out of what checkpoints and data say. Nothing is "
        "overwritten, nothing is downloaded, and nothing of a checkpoint is run.",
    )
    add = parser.add_argument
    add("--detector", type=Path, help="checkpoint of ultralytics, as runs/detect/…/best.pt")
    add("--detector-data", type=Path, help="its data.yaml, or a folder of images")
    add("--classifier", type=Path, help="checkpoint of a timm model: .pth, .pt or .safetensors")
    add("--classifier-data", type=Path, help="folder of class folders, or a CSV manifest")
    add("--class-map", type=Path, help="JSON file {class folder: class index}")
    add("--backbone", help="the classifier's name in timm, where the checkpoint does not say it")
    add("--github", action="store_true", help=f"also write {WORKFLOW}")
    add("--out", type=Path, default=Path("config.yaml"), help="default: %(default)s")
    return parser


def _init(arguments: argparse.Namespace) -> None:
    out: Path = arguments.out
    draft = Draft(out.parent)
    if arguments.detector:
        add_detector(draft, arguments.detector, arguments.detector_data)
    if arguments.classifier:
        add_classifier(
            draft,
            arguments.classifier,
            arguments.backbone,
            arguments.classifier_data,
            arguments.class_map,
        )
    if draft.sections:
        draft.files[out] = draft.text()
    command = _command(out, [*draft.sections])
    if arguments.github:
        add_workflow(draft, command)
    _write(draft.files)
    told = [*draft.found, *(f"wrote {path}" for path in draft.files)]
    print(*map(printable, told), sep="\n")
    if draft.sections:
        _say_what_is_left(out, draft.files[out])
        print(f"next: {command}")


def _write(files: dict[Path, str]) -> None:
    if there := [path for path in files if path.exists()]:
        raise ConfigError(
            "nothing is overwritten, and so nothing was written",
            where=", ".join(map(str, there)),
            got="a file that is there already",
            hint="move it away, write elsewhere with --out, or give a class map with --class-map",
        )
    with ExitStack() as undo:  # all of them, or none
        for path, text in files.items():
            write_atomic(path, text.encode())
            undo.callback(path.unlink)
        undo.pop_all()


def _command(out: Path, stages: list[str]) -> str:
    """The gate over what was written."""
    words = ["pillsnap", "gate"]
    words += [] if {*stages} in ({*STAGES}, set()) else ["--stage", *stages]
    here = Path.cwd()
    place = out.relative_to(here) if out.is_relative_to(here) else out
    words += [] if place == Path("config.yaml") else [f"--config={place}"]
    return shlex.join(words)


def _say_what_is_left(out: Path, text: str) -> None:
    left = [
        f"  {out}:{number}: {each.strip().replace(MARK, ': ')}"
        for number, each in enumerate(text.splitlines(), start=1)
        if MARK in each
    ]
    if left:
        print("to be filled in, since no file says it:", *map(printable, left), sep="\n")
