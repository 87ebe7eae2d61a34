"""The reference engine: the checkpoint as trained, in float32."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter

from pillsnap.core.errors import EngineError
from pillsnap.core.hardware import cpu_name, gpu_name
from pillsnap.core.hashes import sha256_file, sha256_json
from pillsnap.engines.protocol import Batch, Engine, Reference, Request, Transform
from pillsnap.engines.registry import package_versions
from pillsnap.engines.timing import Alone, time_here
from pillsnap.engines.torch.agreement import choice_in_words, origin_notes
from pillsnap.engines.torch.builders import is_built
from pillsnap.engines.torch.checkpoints import (
    NETWORKS,
    build_model,
    count_params,
    find_best_checkpoint,
    model_settings,
    stage_transform,
)
from pillsnap.engines.torch.model import TorchEngine
from pillsnap.engines.torch.raw_boxes import take_one_to_one
from pillsnap.engines.torch.safe_load import LoadedModel, Origin
from pillsnap.pipeline import images, preprocess, transforms


@dataclass(frozen=True)
class Description:
    """What is known of a trained model beside its outputs, as the cache keeps it; LoadedModel says
    what the attributes are."""

    params_million: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    recorded: Annotated[float, Field(ge=0, le=1)] | None
    strides: tuple[Annotated[int, Field(ge=1)], ...]
    class_names: tuple[str, ...]
    origin: Origin


_DESCRIPTION = TypeAdapter(Description)


Stored = NDArray[Any]
"""uint8 [bytes]: a Description as JSON."""


def describe(loaded: LoadedModel, params_million: float) -> Stored:
    """A model's description as it is stored."""
    about = Description(
        params_million, loaded.recorded, loaded.strides, loaded.class_names, loaded.origin
    )
    return np.frombuffer(_DESCRIPTION.dump_json(about), np.uint8)


def read_description(stored: Stored) -> Description:
    """What `describe` has stored; raises ValueError for anything else."""
    return _DESCRIPTION.validate_json(stored.tobytes())


def is_description(stored: Stored) -> bool:
    """Whether an array out of the cache can be one."""
    try:
        read_description(stored)
    except ValueError:
        return False
    return True


class OneByOne:
    """Every image as a batch of its own: the same arithmetic in another blocking. As a candidate it
    gives six columns of boxes, like every other."""

    def __init__(self, engine: Engine) -> None:
        self.info = engine.info
        self._engine = engine

    def run(self, batch: Batch) -> Batch:
        parts = [self._engine.run(batch[index : index + 1]) for index in range(len(batch))]
        output = np.concatenate(parts)
        return output[..., :6] if output.ndim == 3 else output

    def alone(self, image: Batch) -> Alone:
        return time_here(self.run, image)


def _require_device(wanted: str, where: str) -> str:
    if wanted != "cuda":
        return wanted
    import torch

    try:
        # torch.cuda.is_available() says no why, and yes to a GPU that is too old for this torch.
        float(torch.zeros(1, device=wanted) + 1)
    except (RuntimeError, AssertionError) as error:  # the latter from a torch built without CUDA
        raise EngineError(
            "torch has no CUDA device",
            where=where,
            got=str(error).partition("\n")[0],
            expected="a GPU, and a driver that is new enough for this torch",
            hint=f"run where torch can compute on a GPU, or set {where} to cpu",
        ) from error
    return wanted


def open_reference(request: Request) -> Reference:
    """The checkpoint of the request's stage; what every engine of pillsnap is compared with."""
    setting = "export.compare.reference_device"
    return _open(request, request.config.compare.reference_device, setting)


def _open(request: Request, wanted_device: str, setting: str) -> Reference:
    config, stage = request.config, request.cell.stage
    checkpoint = find_best_checkpoint(config, stage)  # before the slow import of torch
    device = _require_device(wanted_device, setting)
    transform = stage_transform(config, stage)
    digest = sha256_file(checkpoint)
    key = _key(request, digest, transform, device)
    info: dict[str, Any] = {"checkpoint": str(checkpoint), "checkpoint_sha256": digest}

    def load() -> LoadedModel:
        loaded = build_model(config, stage, checkpoint)
        if request.one_to_one:
            take_one_to_one(loaded.module, checkpoint)
        return loaded

    engine = TorchEngine(load, info, device=device, threads=request.threads)

    def compute() -> Stored:
        return describe(engine.loaded, count_params(engine.loaded.module))

    own = is_built(config, stage)
    cache, name = None if own else request.cache, sha256_json(["description", key])
    stored = cache.get_or_compute(name, compute, is_description) if cache else compute()
    about = read_description(stored)
    origin = about.origin
    engine.info |= {
        "params_million": about.params_million,
        "recorded": about.recorded,
        "checkpoint_entry": origin.entry,
        "checkpoint_choice": choice_in_words(stage, origin),
        "notes": origin_notes(config, stage, origin, transform),
    }
    remembered = None if own else key
    return Reference(
        engine, transform, about.strides, remembered, engine.run_exact, about.class_names
    )


def _key(request: Request, checkpoint: str, transform: Transform, device: str) -> str:
    """SHA-256 of everything that the reference's answers depend on, down to their last bits."""
    config, stage = request.config, request.cell.stage
    trainer = NETWORKS[stage].trainer(config)
    # Whatever reads checkpoints and builds networks, and what feeds them.
    files = sorted(Path(__file__).parent.rglob("*.py"))
    files += [Path(str(module.__file__)) for module in (images, preprocess, transforms)]
    return sha256_json(
        {
            "stage": stage,
            "one_to_one": request.one_to_one,
            "checkpoint": checkpoint,
            "model": model_settings(config, stage),
            "transform": asdict(transform),
            "versions": package_versions("torch", trainer, "numpy", "pillow", "opencv"),
            "device": [device, gpu_name() if device == "cuda" else cpu_name()],
            "threads": request.threads,
            "code": [sha256_file(file) for file in files],
        }
    )


def open_candidate(request: Request) -> OneByOne:
    """`--engine torch`: torch against itself."""
    if request.cell.precision != "fp32":
        raise EngineError(
            "engine torch only compares fp32 with itself, on cpu or cuda",
            where=request.cell.id,
            hint="use --engine onnx for other providers and precisions",
        )
    device = "cuda" if request.cell.provider == "cuda" else "cpu"
    return OneByOne(_open(request, device, "--provider").engine)
