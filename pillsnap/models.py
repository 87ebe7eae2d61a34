"""Models opened for use: the same sessions, preprocessing and NMS as the gate's."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pillsnap.artifacts import sha256_file
from pillsnap.checkpoints import build_model, letterbox_transform, resolve_classify_transform
from pillsnap.codes import ClassCodes
from pillsnap.compare.classification import softmax
from pillsnap.compare.detection import keep_indices
from pillsnap.config import Config
from pillsnap.errors import EngineError
from pillsnap.export import Exported, describe_onnx, read_onnx, stage_of
from pillsnap.export.claims import expected_use
from pillsnap.export.describe import PREFIX
from pillsnap.export.safety import external_files
from pillsnap.maps import read_class_map, read_edi_map
from pillsnap.modelchoice import engine_of
from pillsnap.pipeline import Pipeline, Stage
from pillsnap.weights import checkpoint_stage

if TYPE_CHECKING:
    import onnxruntime as ort

    from pillsnap.engines import Batch


@dataclass(frozen=True)
class Opened:
    """A model that runs.

    Attributes:
        run: [N,3,H,W] -> its output, see Stage.
        version: version tag (of a checkpoint its file's name), SHA-256, engine and provider.
        whole: whether the SHA-256 covers all weights: none lie in other files.
    """

    run: Callable[[Batch], Batch]
    version: dict[str, str]
    whole: bool = True

    @property
    def provider(self) -> str:
        """What it really runs on: ONNX Runtime's name of it, or torch:<device>."""
        return self.version["provider"]


def model_stage(path: Path) -> str:
    """What a model is for: detection or classification; nothing of it is run.

    Raises:
        EngineError, CheckpointError: no model, or one for neither.
    """
    if engine_of(path) == "torch":
        return checkpoint_stage(path)
    stage = stage_of(read_onnx(path))
    if stage == "neither":
        describe_onnx(path, "classification")  # says what is wrong with it
    return stage


def open_model(
    config: Config, stage: str, path: Path, *, provider: str, threads: int, engine: str
) -> Opened:
    """Load a stage's model and check that it was made for this configuration.

    Args:
        provider: auto, cpu, cuda or tensorrt; torch takes cuda, else runs on the CPU.
        engine: onnx or torch.

    Raises:
        PillsnapError: not a model of this stage, made for another preprocessing or class map, or it
            cannot run as asked.
    """
    if engine == "torch":
        return _open_torch(config, stage, path, provider, threads)
    from pillsnap.engines.sessions import open_session

    described = describe_onnx(path, stage)
    require_same_settings(config, stage, described)
    content = _content(described)
    session = open_session(content, provider, threads, config.session_options)
    return Opened(
        in_fixed_batches(session.ort, session.run),
        {
            "version": described.version_tag or path.stem,
            "sha256": described.sha256,
            "engine": "onnx",
            "provider": session.ort.get_providers()[0],
        },
        whole=isinstance(content, bytes),
    )


def make_pipeline(
    config: Config,
    *,
    classifier: Opened | None = None,
    detector: Opened | None = None,
    batch_size: int = 16,
) -> Pipeline:
    """The pipeline over opened models, with the config's preprocessing, NMS, margin and maps.

    Raises:
        DataError: a map cannot be read.
    """
    return Pipeline(
        classifier=None
        if classifier is None
        else Stage(classifier.run, resolve_classify_transform(config), classifier.version),
        detector=None
        if detector is None
        else Stage(detector.run, letterbox_transform(config), detector.version),
        codes=read_codes(config),
        suppress=partial(keep_indices, params=config.nms),
        softmax=softmax,
        crop_margin=config.pipeline.crop_margin,
        batch_size=batch_size,
    )


def read_codes(config: Config) -> ClassCodes:
    """The config's maps; raises DataError where one cannot be read."""
    data = config.data
    codes = None if data.class_map is None else read_class_map(data.class_map)
    edi = None if data.edi_map is None else read_edi_map(data.edi_map)
    # Several codes may share a class; the first in the map names it.
    named = None if codes is None else {i: code for code, i in reversed(codes.items())}
    return ClassCodes(named, edi)


def _open_torch(config: Config, stage: str, path: Path, provider: str, threads: int) -> Opened:
    from pillsnap.engines.torch_model import TorchEngine

    device = "cuda" if provider == "cuda" else "cpu"
    model = build_model(config, stage, path)
    channels_last = stage == "classification" and config.classification.channels_last
    engine = TorchEngine(
        lambda: model, {}, device=device, threads=threads, channels_last=channels_last
    )

    def run(batch: Batch) -> Batch:
        output = engine.run(batch)
        return output[..., :6] if stage == "detection" else output

    facts = {"version": path.stem, "sha256": sha256_file(path)}
    return Opened(run, {**facts, "engine": "torch", "provider": f"torch:{device}"})


def _content(described: Exported) -> bytes | Path:
    """The bytes that were described, so that what runs is what was hashed; the path of a model
    whose weights lie beside it."""
    if external_files(read_onnx(described.path)):
        return described.path
    data = described.path.read_bytes()
    if hashlib.sha256(data).hexdigest() != described.sha256:
        raise EngineError("the model changed while it was read", where=described.path)
    return data


def require_same_settings(config: Config, stage: str, described: Exported) -> None:
    """Refuse an export made for another preprocessing or class map; foreign files say nothing."""
    for key, value in expected_use(config, stage).items():
        found = described.metadata.get(PREFIX + key)
        if found and found != value:
            raise EngineError(
                f"the {stage} model was exported for another {key.removesuffix('_sha256')}",
                where=described.path,
                got=found,
                expected=value,
                hint="export it again with this config, or take the config it was exported with",
            )


def in_fixed_batches(
    session: ort.InferenceSession, run: Callable[[Batch], Batch]
) -> Callable[[Batch], Batch]:
    """`run`, for a file with a fixed batch size fed as many as it takes, the last filled up."""
    size = session.get_inputs()[0].shape[0]
    if not isinstance(size, int):
        return run

    def run_parts(batch: Batch) -> Batch:
        missing = -len(batch) % size
        filled = np.concatenate([batch, np.repeat(batch[-1:], missing, axis=0)])
        parts = [run(filled[start : start + size]) for start in range(0, len(filled), size)]
        return np.concatenate(parts)[: len(batch)]

    return run_parts
