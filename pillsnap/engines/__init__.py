"""Engines: what a candidate runs on. Each opens a file; `register` adds one, and `--engine` takes
its name. Only the engine that is asked for imports its library.
"""

from __future__ import annotations

from dataclasses import replace

from pillsnap.config.settings import Config
from pillsnap.core.alternatives import NNCF, ONNXRUNTIME, OPENVINO, ULTRALYTICS
from pillsnap.core.modelfiles import EXPORTED, IR
from pillsnap.engines.openvino.devices import DEVICES, name_device
from pillsnap.engines.protocol import (
    Batch,
    Engine,
    FindFile,
    ModelFile,
    Reference,
    Request,
    Transform,
)
from pillsnap.engines.registry import (
    Entry,
    engine_names,
    entries,
    find_entry,
    gpu_providers,
    package_sources,
    package_versions,
    provider_names,
    register,
)

__all__ = [
    "EXPORTED",
    "Batch",
    "Engine",
    "Entry",
    "FindFile",
    "ModelFile",
    "Reference",
    "Request",
    "Transform",
    "engine_names",
    "entries",
    "find_entry",
    "gpu_providers",
    "package_sources",
    "package_versions",
    "provider_names",
    "register",
]


def _open_onnx(request: Request, file: FindFile) -> Engine:
    from pillsnap.engines.onnxruntime.engine import open_candidate

    return open_candidate(request, file)


def _use_onnx(
    file: ModelFile, precision: str, provider: str, threads: int, config: Config
) -> Engine:
    from pillsnap.engines.onnxruntime.engine import open_for_use

    return open_for_use(file, provider, threads, config)


def _name_onnx(provider: str) -> list[str]:
    from pillsnap.engines.onnxruntime.providers import NAMES, select_onnx_providers

    return [NAMES[provider]] if provider in NAMES else select_onnx_providers(provider)


def _open_torch(request: Request, _: FindFile) -> Engine:
    from pillsnap.engines.torch.engine import open_candidate

    return open_candidate(request)


def _open_openvino(request: Request, file: FindFile) -> Engine:
    from pillsnap.engines.openvino.engine import open_candidate

    return open_candidate(request, file)


def _use_openvino(
    file: ModelFile, precision: str, provider: str, threads: int, config: Config
) -> Engine:
    from pillsnap.engines.openvino.engine import open_for_use

    return open_for_use(file, precision, provider, threads)


_ONNX = Entry(
    "onnx",
    _open_onnx,
    require=ONNXRUNTIME.require,
    packages={"onnxruntime": ONNXRUNTIME.distributions},
    providers=("auto", "cpu", "cuda", "tensorrt"),
    gpu=("auto", "cuda", "tensorrt"),
    diagnosed=True,
    use=_use_onnx,
    reported=_name_onnx,
)
register(_ONNX)
# ONNX Runtime with another provider.
register(replace(_ONNX, name="tensorrt", providers=("tensorrt",)))
register(
    Entry(
        "openvino",
        _open_openvino,
        require=OPENVINO.require,
        packages={"openvino": OPENVINO.distributions, "nncf": NNCF.distributions},
        suffixes=(EXPORTED, IR),
        providers=tuple(DEVICES),
        use=_use_openvino,
        reported=lambda provider: (name_device(DEVICES[provider]),),
    )
)
register(
    Entry(
        "torch",
        _open_torch,
        packages={
            "torch": ("torch",),
            "timm": ("timm",),
            "ultralytics": ULTRALYTICS.distributions,
        },
        suffixes=(".pt", ".pth", ".tar", ".ckpt", ".bin", ".safetensors"),
        providers=("auto", "cpu", "cuda"),
        gpu=("cuda",),
        reported=lambda provider: ("torch",),
    )
)
