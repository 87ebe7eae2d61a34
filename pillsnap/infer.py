"""python -m pillsnap.infer: run one model over images, one JSON line an image.

The same preprocessing, engines and NMS as the gate, so what it prints is what was verified.
"""

from __future__ import annotations

import argparse
import glob
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pillsnap.checkpoints import build_model, stage_transform
from pillsnap.compare.classification import softmax
from pillsnap.compare.detection import keep_indices, restore_boxes
from pillsnap.compare.loading import prepare
from pillsnap.config import Config, find_config, load_config
from pillsnap.datasets import Sample
from pillsnap.engines import Batch, Engine
from pillsnap.errors import DataError, PillsnapError
from pillsnap.maps import read_class_map, read_edi_map
from pillsnap.matrix import PROVIDERS
from pillsnap.options import thread_count
from pillsnap.preprocess import Geometry
from pillsnap.weights import checkpoint_stage

Result = dict[str, Any]


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0; 1 if an image could not be read; 2 for wrong arguments, config or model."""
    parser = argparse.ArgumentParser(prog="python -m pillsnap.infer", description=__doc__)
    parser.add_argument("--engine", choices=("torch", "onnx"), default="onnx")
    parser.add_argument("--model", type=Path, required=True, help=".onnx file, or .pt for torch")
    parser.add_argument("--inputs", required=True, help="an image, or a quoted glob (** too)")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--provider", choices=PROVIDERS, default="auto")
    parser.add_argument("--config", help="config file (environment: PILLSNAP_CONFIG)")
    parser.add_argument("--threads", type=int)
    arguments = parser.parse_args(argv)
    if arguments.batch < 1:
        parser.error(f"--batch must be 1 or more, got {arguments.batch}")
    try:
        unreadable = 0
        for result in infer(arguments):
            unreadable += "error" in result
            print(json.dumps(result, ensure_ascii=False), flush=True)
    except PillsnapError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if unreadable:
        print(f"{unreadable} images could not be read", file=sys.stderr)
    return 1 if unreadable else 0


def infer(arguments: argparse.Namespace) -> Iterator[Result]:
    """One result per image, in the order of their paths."""
    config = load_config(find_config(arguments.config, os.environ, Path.cwd()))
    paths = find_inputs(arguments.inputs)
    stage, engine = _open(arguments, config)
    transform = stage_transform(config, stage)
    names = _Names(config)
    for start in range(0, len(paths), arguments.batch):
        samples = [
            Sample(str(path), Path(), None) for path in paths[start : start + arguments.batch]
        ]
        batch = prepare(samples, transform)
        answers: dict[str, Result] = {
            name: {"error": " ".join(reason.split())} for name, reason in batch.unreadable.items()
        }
        if batch.samples:
            output = engine.run(batch.array)
            if stage == "detection":
                described = _boxes(output, batch.geometries, config)
            else:
                described = [names.describe(row) for row in softmax(output)]
            readable = (sample.id for sample in batch.samples)
            answers |= dict(zip(readable, described, strict=True))
        for sample in samples:
            yield {"image": sample.id, **answers[sample.id]}


def find_inputs(pattern: str) -> list[Path]:
    """Files that a path or glob names, sorted; raises DataError when there are none."""
    # Path.glob takes no absolute patterns.
    paths = sorted(Path(name) for name in glob.glob(pattern, recursive=True))  # noqa: PTH207
    files = [path for path in paths if not path.is_dir()]
    if not files:
        raise DataError(
            "no input", where="--inputs", got=pattern, hint="quote the glob, and check the folder"
        )
    return files


def _open(arguments: argparse.Namespace, config: Config) -> tuple[str, Engine]:
    threads = thread_count(arguments.threads, 1, config.runtime.cpu.intra_op_num_threads)
    if arguments.engine == "torch":
        from pillsnap.engines.torch_engine import TorchEngine

        stage = checkpoint_stage(arguments.model)
        model = build_model(config, stage, arguments.model)
        return stage, TorchEngine(lambda: model, {}, device="cpu", threads=threads)
    from pillsnap.engines.onnx_engine import OnnxEngine
    from pillsnap.engines.sessions import open_session
    from pillsnap.export import describe_onnx, read_onnx, stage_of

    stage = stage_of(read_onnx(arguments.model))
    if stage == "neither":
        describe_onnx(arguments.model, "classification")  # says what is wrong with it
    session = open_session(arguments.model, arguments.provider, threads, config.session_options)
    return stage, OnnxEngine(session, {})


class _Names:
    """Class index -> mapping code -> edi_code, as far as the config's maps go."""

    def __init__(self, config: Config) -> None:
        codes = read_class_map(config.data.class_map) if config.data.class_map else {}
        # Several codes may share a class; the first in the map names it.
        self._codes = {index: code for code, index in reversed(codes.items())}
        self._edi = read_edi_map(config.data.edi_map) if config.data.edi_map else {}

    def describe(self, probabilities: np.ndarray[Any, Any]) -> Result:
        index = int(probabilities.argmax())
        code = self._codes.get(index)
        return {
            "class_index": index,
            "code": code,
            "edi_code": self._edi.get(code) if code is not None else None,
            "confidence": round(float(probabilities[index]), 6),
        }


def _boxes(output: Batch, geometries: Sequence[Geometry], config: Config) -> list[Result]:
    return [
        {
            "boxes": [
                {
                    "xyxy": [round(float(value), 2) for value in box[:4]],
                    "confidence": round(float(box[4]), 6),
                    "class_id": int(box[5]),
                }
                for box in restore_boxes(rows, keep_indices(rows, config.nms), geometry)
            ]
        }
        for rows, geometry in zip(output, geometries, strict=True)
    ]


if __name__ == "__main__":
    sys.exit(main())
