"""python -m pillsnap.infer: run the models over images, one JSON line an image.

The same preprocessing, engines, NMS and crops as the gate and the service, so what it prints is
what was verified.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from pillsnap.config.cells import CLASSIFICATION, DETECTION, PROVIDERS
from pillsnap.config.load import find_config, load_config, read_environment
from pillsnap.config.settings import Config
from pillsnap.core.errors import ConfigError, ImageError, PillsnapError
from pillsnap.core.printable import printable
from pillsnap.core.workers import thread_count
from pillsnap.infer.choice import choose_model, engine_of
from pillsnap.infer.inputs import find_inputs
from pillsnap.infer.int8 import quantize_model
from pillsnap.infer.models import Opened, make_pipeline, model_stage, open_model
from pillsnap.infer.outputs import open_results, save_drawn
from pillsnap.infer.progress import Progress
from pillsnap.pipeline.images import Pixels, read_image
from pillsnap.pipeline.twostage import Pipeline, Result


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0; 1 if an image could not be read; 2 for wrong arguments, config or model; 130
    where it was interrupted."""
    arguments = _parse(argv)
    # Which models are taken, and why.
    logging.basicConfig(format="%(message)s")
    logging.getLogger("pillsnap").setLevel(logging.INFO)
    try:
        unreadable = _infer(arguments)
    except PillsnapError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    if unreadable:
        print(f"{unreadable} images could not be read", file=sys.stderr)
    return 1 if unreadable else 0


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m pillsnap.infer", description=__doc__)
    add = parser.add_argument
    add("--engine", choices=("torch", "onnx", "tensorrt"), help="default: by the model's name")
    add(
        "--model",
        type=Path,
        help=".onnx, or a checkpoint for torch; default: as the service chooses it",
    )
    add("--inputs", required=True, help="an image, or a quoted glob with {a,b} and **")
    add("--batch", type=int, default=16, help="images, or crops, in one forward pass")
    add("--mode", choices=("single", "combo"), help="default: pipeline.mode of the config")
    add("--detector", type=Path, help="combo: the detector; default: as the service chooses it")
    add("--output", type=Path, help="results.jsonl or .csv; default: JSON lines on the terminal")
    add("--save-images", type=Path, metavar="DIR", help="photos with boxes and codes drawn")
    add("--quantize", choices=("int8",), help="run the models in INT8, made where not there yet")
    add("--provider", choices=PROVIDERS, default="auto")
    add("--config", help="config file (environment: PILLSNAP_CONFIG)")
    add("--threads", type=int)
    arguments = parser.parse_args(argv)
    if arguments.batch < 1:
        parser.error(f"--batch must be 1 or more, got {arguments.batch}")
    if arguments.engine == "tensorrt" and arguments.provider not in ("auto", "tensorrt"):
        parser.error(f"engine tensorrt runs on provider tensorrt, not {arguments.provider}")
    return arguments


def _infer(arguments: argparse.Namespace) -> int:
    """Write one result per image, in the order of their paths; returns how many are unreadable."""
    config = load_config(find_config(arguments.config, os.environ, Path.cwd()))
    paths = find_inputs(arguments.inputs)
    mode, pipeline = _open(arguments, config)
    shared = Path(os.path.commonpath([path.absolute().parent for path in paths]))
    unreadable = 0
    with (
        open_results(arguments.output, sys.stdout) as write,
        closing(Progress(len(paths), sys.stderr)) as progress,
    ):
        for path, image, result in _results(paths, pipeline, mode, arguments.batch):
            write({"image": str(path), **result})
            if image is None:
                unreadable += 1
                progress.clear()
                print(printable(f"{path}: {result['error']}"), file=sys.stderr)
            elif arguments.save_images is not None:
                below = path.absolute().relative_to(shared)
                save_drawn(image, result, arguments.save_images / f"{below}.png")
            progress.advance(failed=unreadable)
    return unreadable


def _results(
    paths: Sequence[Path], pipeline: Pipeline, mode: str, batch: int
) -> Iterator[tuple[Path, Pixels | None, Result]]:
    """Path, image and result of each; None for an image that cannot be read."""
    for start in range(0, len(paths), batch):
        part = paths[start : start + batch]
        images = [_read(path) for path in part]
        found = iter(pipeline.run([image for image in images if not isinstance(image, str)], mode))
        for path, image in zip(part, images, strict=True):
            if isinstance(image, str):
                yield path, None, {"error": image}
            else:
                yield path, image, next(found)


def _read(path: Path) -> Pixels | str:
    """The image, or why it cannot be read."""
    try:
        return read_image(path)
    except ImageError as error:
        return " ".join(str(error).split())


def _open(arguments: argparse.Namespace, config: Config) -> tuple[str, Pipeline]:
    """The mode that is asked for, and its pipeline. In mode single a detector finds boxes alone."""
    environ = read_environment(config.source)
    mode = arguments.mode or config.pipeline.mode
    if arguments.detector is not None and mode != "combo":
        raise ConfigError(
            "only mode combo takes a detector beside the model",
            where="--detector",
            got=f"mode {mode}",
            hint="add --mode combo, or give the detector as --model to find boxes alone",
        )
    path = arguments.model or choose_model(config, CLASSIFICATION, environ).path
    stage = CLASSIFICATION
    if mode == "single":
        stage = model_stage(path) if arguments.model is not None else stage
        opened = _open_stage(arguments, config, stage, path)
        if stage == DETECTION:
            return "boxes", make_pipeline(config, detector=opened, batch_size=arguments.batch)
        return mode, make_pipeline(config, classifier=opened, batch_size=arguments.batch)
    detector = arguments.detector or choose_model(config, DETECTION, environ).path
    return mode, make_pipeline(
        config,
        classifier=_open_stage(arguments, config, CLASSIFICATION, path),
        detector=_open_stage(arguments, config, DETECTION, detector),
        batch_size=arguments.batch,
    )


def _open_stage(arguments: argparse.Namespace, config: Config, stage: str, path: Path) -> Opened:
    engine = arguments.engine or engine_of(path)
    provider = arguments.provider
    if engine == "tensorrt":
        engine, provider = "onnx", "tensorrt"
    if arguments.quantize is not None:
        path = quantize_model(config, stage, path, engine)
    threads = thread_count(arguments.threads, 1, config.runtime.cpu.intra_op_num_threads)
    return open_model(config, stage, path, provider=provider, threads=threads, engine=engine)


if __name__ == "__main__":
    sys.exit(main())
