"""The reference engine: the checkpoint as trained, in float32."""

from __future__ import annotations

import copy
import ctypes
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import pillsnap.classifier
import pillsnap.detector
import pillsnap.images
import pillsnap.preprocess
import pillsnap.weights
from pillsnap.artifacts import sha256_file, sha256_json
from pillsnap.checkpoints import (
    LoadedModel,
    build_model,
    count_params,
    find_best_checkpoint,
    stage_transform,
)
from pillsnap.engines.protocol import Batch, Engine, Reference, Request, Transform
from pillsnap.engines.timing import Alone, time_here
from pillsnap.errors import EngineError
from pillsnap.hardware import cpu_name, gpu_name
from pillsnap.versions import package_version

if TYPE_CHECKING:
    import torch


def infer_torch(module: torch.nn.Module, batch: Batch, device: str = "cpu") -> Batch:
    """Run a module on [N,3,H,W] float32 without gradients; returns its output as float32."""
    import torch

    return _infer(module, torch.from_numpy(batch).to(device))


def _infer(module: torch.nn.Module, images: torch.Tensor) -> Batch:
    import torch

    with torch.inference_mode():
        output: Batch = module(images).float().cpu().numpy()
    return output


# Of malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def keep_freed_memory() -> None:
    """Have glibc keep large freed blocks instead of handing them back to the system.

    Otherwise every layer's output costs new pages, which the kernel has to clear. Measured on two
    CPUs at a batch of 8: YOLO11m 1.06 -> 0.82 s an image, EfficientNetV2-S 0.37 -> 0.25, for a peak
    of memory that is 10 to 30 % higher. Other C libraries have no mallopt, and go without.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


class TorchEngine:
    """A trained model, loaded when it is first asked something: what was remembered of it is read
    faster than torch is imported.

    Args:
        load: gives the model.
        info: what the report says of it.
        device: cpu or cuda.
        threads: intra-op threads.
        channels_last: the memory format of the model.
    """

    def __init__(
        self,
        load: Callable[[], LoadedModel],
        info: dict[str, Any],
        *,
        device: str,
        threads: int,
        channels_last: bool = False,
    ) -> None:
        self.info = {**info, "device": device, "providers": [f"torch:{device}"]}
        self._load = load
        self._device = device
        self._threads = threads
        self._channels_last = channels_last

    @cached_property
    def loaded(self) -> LoadedModel:
        import torch

        keep_freed_memory()
        torch.set_num_threads(self._threads)
        # TF32 keeps ten bits of mantissa: an fp32 reference must not use it.
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        loaded = self._load()
        loaded.module.to(self._device)
        return loaded

    def run(self, batch: Batch) -> Batch:
        return infer_torch(self.loaded.module, batch, self._device)

    def run_with_threads(self, batch: Batch) -> Batch:
        """`run` with one thread, or with two where the engine has one."""
        import torch

        module = self.loaded.module
        torch.set_num_threads(2 if self._threads == 1 else 1)
        try:
            return infer_torch(module, batch, self._device)
        finally:
            torch.set_num_threads(self._threads)

    def run_in_other_format(self, batch: Batch) -> Batch:
        """`run` with channels last, or channels first where the model has them last.

        On a copy: a 1 x 1 convolution that was converted keeps strides that pass for either format,
        and the model would run otherwise, and slower, from then on.
        """
        import torch

        other = torch.contiguous_format if self._channels_last else torch.channels_last
        # torch's stubs do not know that modules take a memory format alone.
        convert: Callable[..., torch.nn.Module] = copy.deepcopy(self.loaded.module).to
        images = torch.from_numpy(batch).to(self._device)
        return _infer(convert(memory_format=other), images.contiguous(memory_format=other))


@dataclass
class _Variant:
    """An engine's model in another blocking of the same arithmetic."""

    run: Callable[[Batch], Batch]
    info: dict[str, Any] = field(default_factory=dict)


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

    if torch.cuda.is_available():
        return wanted
    raise EngineError(
        "torch has no CUDA device",
        where=where,
        got="cuda",
        expected="a GPU that torch.cuda.is_available() sees",
        hint="run on a GPU machine, or use cpu",
    )


def open_reference(request: Request) -> Reference:
    """The checkpoint of the request's stage; what every engine of pillsnap is compared with."""
    setting = "export.compare.reference_device"
    return _open(request, request.config.compare.reference_device, setting)


def _open(request: Request, wanted_device: str, setting: str) -> Reference:
    config, stage = request.config, request.cell.stage
    checkpoint = find_best_checkpoint(config.exp_dir, stage)  # before the slow import of torch
    device = _require_device(wanted_device, setting)
    transform = stage_transform(config, stage)
    digest = sha256_file(checkpoint)
    key = _key(request, digest, transform, device)
    info: dict[str, Any] = {"checkpoint": str(checkpoint), "checkpoint_sha256": digest}
    engine = TorchEngine(
        lambda: build_model(config, stage, checkpoint),
        info,
        device=device,
        threads=request.threads,
        channels_last=stage == "classification" and config.classification.channels_last,
    )

    def describe() -> Batch:
        loaded = engine.loaded
        return np.array([count_params(loaded.module), *loaded.strides], np.float64)

    if request.cache is None:
        about = describe()
    else:
        about = request.cache.get_or_compute(sha256_json(["about", key]), describe)
    engine.info["params_million"] = float(about[0])
    variants: dict[str, Engine] = {
        "batch_size": OneByOne(engine),
        "threads": _Variant(engine.run_with_threads),
        "memory_format": _Variant(engine.run_in_other_format),
    }
    strides = tuple(int(stride) for stride in about[1:])
    return Reference(engine, transform, strides, key, variants)


def _key(request: Request, checkpoint: str, transform: Transform, device: str) -> str:
    """SHA-256 of everything that the reference's answers depend on, down to their last bits."""
    config, stage = request.config, request.cell.stage
    trainer = "ultralytics" if stage == "detection" else "timm"
    code: tuple[Any, ...] = (
        pillsnap.classifier,
        pillsnap.detector,
        pillsnap.weights,
        pillsnap.images,
        pillsnap.preprocess,
    )
    files = [__file__, *(module.__file__ for module in code)]
    return sha256_json(
        {
            "stage": stage,
            "checkpoint": checkpoint,
            "model": asdict(getattr(config, stage)),
            "transform": asdict(transform),
            "versions": {
                name: package_version(name)
                for name in ("torch", trainer, "numpy", "pillow", "opencv")
            },
            "device": [device, gpu_name() if device == "cuda" else cpu_name()],
            "threads": request.threads,
            "code": [sha256_file(Path(file)) for file in files],
        }
    )


class TorchBackend:
    """`--engine torch`: torch against itself."""

    def open_reference(self, request: Request) -> Reference:
        return open_reference(request)

    def open_candidate(self, request: Request) -> Engine:
        provider = request.cell.provider
        if provider == "tensorrt" or request.cell.precision != "fp32":
            raise EngineError(
                "engine torch only compares fp32 with itself, on cpu or cuda",
                where=request.cell.id,
                hint="use --engine onnx for other providers and precisions",
            )
        device = "cuda" if provider == "cuda" else "cpu"
        return OneByOne(_open(request, device, "--provider").engine)
