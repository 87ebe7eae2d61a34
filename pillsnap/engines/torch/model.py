"""A trained model as torch runs it, in float32."""

from __future__ import annotations

import copy
import ctypes
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pillsnap.core.errors import EngineError, first_line
from pillsnap.engines.protocol import Batch
from pillsnap.engines.torch.safe_load import LoadedModel

if TYPE_CHECKING:
    import torch


def infer_torch(module: torch.nn.Module, batch: Batch, device: str = "cpu") -> Batch:
    """Run a module on [N,3,H,W] float32 without gradients; returns its output as float32, or an
    EngineError where that is no tensor."""
    import torch

    with torch.inference_mode():
        found = module(torch.from_numpy(batch).to(device))
        if not isinstance(found, torch.Tensor):
            raise EngineError(
                "the network answers with more than logits",
                got=f"a {type(found).__name__}",
                expected="a tensor [N,classes]",
                hint="have classification.builder return a module whose forward gives that alone",
            )
        output: Batch = found.float().cpu().numpy()
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
    faster than torch is imported. `info` is what the report says of it, `device` cpu or cuda."""

    def __init__(
        self, load: Callable[[], LoadedModel], info: dict[str, Any], *, device: str, threads: int
    ) -> None:
        self.info = {**info, "device": device, "providers": [f"torch:{device}"]}
        self._load = load
        self._device = device
        self._threads = threads

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

    def run_exact(self, batch: Batch) -> NDArray[np.float64]:
        """`run` in float64, weights and buffers too; EngineError where the network mixes in numbers
        of a type of its own."""
        import torch

        images = torch.from_numpy(batch).to(self._device, torch.float64)
        try:
            with torch.inference_mode():
                output: NDArray[np.float64] = self._exact(images).double().cpu().numpy()
        except RuntimeError as error:
            raise EngineError(
                "torch cannot run this network in float64, and so cannot say how exact a file is",
                where=self.info["checkpoint"],
                got=first_line(error),
                hint="set exactness: null in the profile that judges, and prob_err_max or "
                "raw_box_err_px and raw_score_err in its place",
            ) from error
        return output

    @cached_property
    def _exact(self) -> torch.nn.Module:
        return copy.deepcopy(self.loaded.module).double()
