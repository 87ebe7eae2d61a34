"""The shared libraries that ONNX Runtime's GPU providers need: loaded, or named as missing."""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import re
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

DRIVER = "libcuda.so.1"


def has_nvidia_driver() -> bool:
    try:
        ctypes.CDLL(DRIVER)
    except OSError:
        return False
    return True


def preload(provider: str) -> None:
    """Load what pip installed of CUDA, cuDNN and TensorRT, where ONNX Runtime will find it.

    Otherwise only libraries on the loader's path count, or those that torch happens to have loaded
    before, and a reference that is remembered does not import torch.
    """
    import onnxruntime as ort

    # Without it TensorRT, which has no option for it, computes float32 in TF32. Libraries read it
    # when they start.
    os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")
    if hasattr(ort, "preload_dlls"):
        with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does not find
            ort.preload_dlls()
    if provider == "tensorrt" and find_spec("tensorrt") is not None:
        with contextlib.suppress(ImportError, OSError):  # find_missing says what is wrong
            import_module("tensorrt")


def find_missing(provider: str) -> list[str]:
    """Libraries without which a provider (cuda or tensorrt) cannot run here: names such as
    libnvinfer.so.10. Only the first that the loader stumbles upon is known, and the driver's.
    """
    import onnxruntime as ort

    preload(provider)
    folder = Path(ort.__file__).parent / "capi"
    missing = []
    try:
        # Providers take symbols from it, and ONNX Runtime loads it first as well.
        ctypes.CDLL(str(folder / "libonnxruntime_providers_shared.so"), mode=ctypes.RTLD_GLOBAL)
        ctypes.CDLL(str(folder / f"libonnxruntime_providers_{provider}.so"))
    except OSError as error:
        name = re.match(r"(\S+): cannot open shared object file", str(error))
        missing.append(Path(name[1]).name if name else str(error))
    if not has_nvidia_driver():
        missing.append(DRIVER)
    return list(dict.fromkeys(missing))
