"""The pipeline without torch and without pillsnap: models, maps and parameters are frozen in.

pillsnap_pipeline.py, which ends with this source, needs numpy, Pillow, OpenCV and ONNX Runtime:

    python pillsnap_pipeline.py --mode combo photo.jpg     one JSON line an image
    pillsnap_pipeline.load().run([image], "combo")         image: uint8 [H, W, 3], RGB
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pillsnap.core.cpus import usable_cpus
from pillsnap.core.errors import EngineError, ImageError, PillsnapError
from pillsnap.core.placeholders import find_placeholder
from pillsnap.core.streams import print_line
from pillsnap.engines.onnxruntime.feeding import run_session
from pillsnap.pipeline.batches import fixed_batch_size, in_fixed_batches
from pillsnap.pipeline.codes import ClassCodes
from pillsnap.pipeline.images import read_image
from pillsnap.pipeline.layouts import READERS
from pillsnap.pipeline.nms import suppress_boxes, take_boxes
from pillsnap.pipeline.transforms import ClassifyTransform, LetterboxTransform
from pillsnap.pipeline.twostage import CLASSIFICATION, DETECTION, STAGES_OF, Pipeline, Stage

if TYPE_CHECKING:
    import onnxruntime

# What the assembler puts here: stages, each with file, sha256, version, transform, and of files of
# other exporters layout, outputs and final_above (see Foreign in infer/foreign.py); nms,
# crop_margin, codes, edi and mode; the oldest onnxruntime that reads all of them, and how it is to
# optimise them.
FROZEN: dict[str, Any] = {}


def load(
    folder: Path | None = None,
    *,
    providers: Sequence[str] = ("CPUExecutionProvider",),
    threads: int = 0,
    batch_size: int = 16,
) -> Pipeline:
    """The pipeline over the models that this file was written for.

    Args:
        folder: where they lie; beside this file by default.
        providers: ONNX Runtime's names, best first.
        threads: intra-op threads; 0 is one for each CPU that this process may use.

    Raises:
        EngineError: a model is missing, is another than the one that was frozen, or cannot run.
    """
    folder = Path(__file__).resolve().parent if folder is None else folder
    transforms: dict[str, Any] = {CLASSIFICATION: ClassifyTransform, DETECTION: LetterboxTransform}
    stages = {}
    for stage, facts in FROZEN["stages"].items():
        session = _open_session(folder / facts["file"], facts["sha256"], providers, threads)
        run = in_fixed_batches(fixed_batch_size(session), _reading(session, facts))
        version = {"version": facts["version"], "sha256": facts["sha256"], "engine": "onnx"}
        transform = transforms[stage](**facts["transform"])
        stages[stage] = Stage(run, transform, {**version, "provider": providers[0]})
    codes, above = FROZEN["codes"], FROZEN["stages"].get(DETECTION, {}).get("final_above")
    return Pipeline(
        stages=stages,
        codes=ClassCodes(
            None if codes is None else {int(index): code for index, code in codes.items()},
            FROZEN["edi"],
        ),
        suppress=partial(suppress_boxes, **FROZEN["nms"])
        if above is None
        else partial(take_boxes, above=above),
        crop_margin=FROZEN["crop_margin"],
        batch_size=batch_size,
    )


def _reading(
    session: onnxruntime.InferenceSession, facts: dict[str, Any]
) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """What a stage takes of a model for [N,3,H,W]."""
    if facts["layout"] is None:
        return lambda batch: run_session(session, batch)[0]
    names = [output.name for output in session.get_outputs()]
    read, wanted = READERS[facts["layout"]], [names.index(name) for name in facts["outputs"]]

    def run(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        outputs = run_session(session, batch)
        return read([outputs[index] for index in wanted], (batch.shape[2], batch.shape[3]))

    return run


def _open_session(
    path: Path, sha256: str, providers: Sequence[str], threads: int
) -> onnxruntime.InferenceSession:
    import onnxruntime

    try:
        data = path.read_bytes()
    except OSError as error:
        raise EngineError("cannot read the model", where=path, got=error.strerror) from error
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        standing = find_placeholder(data, path)
        raise EngineError(
            "this is another model than the one that was verified",
            where=path,
            got=found if standing is None else standing.kind,
            expected=sha256,
            hint="take the file and pillsnap_pipeline.py of the same export"
            if standing is None
            else standing.hint,
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or usable_cpus()
    level = getattr(onnxruntime.GraphOptimizationLevel, FROZEN["graph_optimization_level"])
    options.graph_optimization_level = level
    # The oldest runtimes know no such argument.
    off = FROZEN["disabled_optimizers"]
    given = {"disabled_optimizers": off} if off else {}
    session = onnxruntime.InferenceSession(data, options, providers=list(providers), **given)
    session.disable_fallback()
    if session.get_providers()[0] != providers[0]:
        raise EngineError(
            "a provider was asked for and does not run",
            where=path,
            got=session.get_providers()[0],
            expected=providers[0],
        )
    return session


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0; 1 if an image could not be read or answered; 2 for a wrong argument or model, or
    results that cannot be written."""
    parser = argparse.ArgumentParser(description="Pill photos to codes: one JSON line an image.")
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("--mode", choices=tuple(STAGES_OF), default=FROZEN["mode"])
    parser.add_argument("--provider", default="CPUExecutionProvider")
    parser.add_argument("--threads", type=int, default=0)
    arguments = parser.parse_args(argv)
    failed = False
    try:
        pipeline = load(providers=[arguments.provider], threads=arguments.threads)
        for path in arguments.images:
            try:
                (result,) = pipeline.run([read_image(path)], arguments.mode)
            except ImageError as error:
                result = {"error": " ".join(str(error).split())}
            failed |= "error" in result
            print_line(json.dumps({"image": str(path), **result}), sys.stdout)
    except PillsnapError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 1 if failed else 0
