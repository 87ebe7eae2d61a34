"""Which ONNX Runtime providers are asked for, with which options, and whether those really run."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from pillsnap.config.runtime import Runtime
from pillsnap.core.errors import EngineError
from pillsnap.core.files import FOLDER_MODE
from pillsnap.core.logrecords import open_log
from pillsnap.engines.onnxruntime.libraries import find_missing, has_nvidia_driver

log = open_log(__name__)

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"
NAMES = {"cpu": CPU, "cuda": CUDA, "tensorrt": TENSORRT}
# What is asked for: nodes that one does not take go to the next.
_ASKED = {"cpu": [CPU], "cuda": [CUDA, CPU], "tensorrt": [TENSORRT, CUDA, CPU]}
INSTALL = {
    "cuda": (
        "needs an NVIDIA driver, CUDA 13 and cuDNN 9: "
        "pip uninstall onnxruntime, pip install 'pillsnap[gpu]'"
    ),
    "tensorrt": (
        "needs an NVIDIA driver, CUDA 13 and TensorRT 10.x (11 does not fit): "
        "pip uninstall onnxruntime, pip install 'pillsnap[gpu]' 'tensorrt-cu13>=10,<11'"
    ),
}

Options = dict[str, dict[str, str]]


def select_onnx_providers(provider: str = "auto") -> list[str]:
    """Providers to ask ONNX Runtime for, best first.

    Args:
        provider: auto (CUDA when there is a driver, else CPU), cpu, cuda or tensorrt.

    `auto` may fall back to the CPU and logs it. The others are asked for whatever the machine has,
    so that `check_provider` can refuse; ort.get_available_providers() lists what the wheel was
    built with, not what can run.

    Raises:
        EngineError: no provider of that name.
    """
    if provider == "auto":
        provider = "cuda" if has_nvidia_driver() else "cpu"
        if provider == "cpu":
            log.warning("provider auto: no NVIDIA driver on this machine, running on %s", CPU)
    if provider not in _ASKED:
        raise EngineError(
            "there is no such provider", got=provider, expected=f"auto, {', '.join(NAMES)}"
        )
    return [*_ASKED[provider]]


def provider_options(runtime: Runtime, precision: str | None = None) -> Options:
    """Options by provider, as ONNX Runtime takes them.

    Args:
        precision: of the cell, which decides what TensorRT may compute in; None leaves it to the
            configuration.
    """
    tensorrt = asdict(runtime.tensorrt)
    if precision is not None:
        tensorrt |= {
            "trt_fp16_enable": precision == "fp16",
            "trt_int8_enable": precision == "int8",
        }
    # TF32 keeps ten bits of mantissa: a comparison in float32 must not use it.
    cuda = {**asdict(runtime.cuda), "use_tf32": False}
    return {
        name: {key: _text(value) for key, value in options.items() if value is not None}
        for name, options in ((TENSORRT, tensorrt), (CUDA, cuda), (CPU, {}))
    }


def require_loadable(provider: str, runtime: Runtime) -> None:
    """Refuse a provider asked for by name that cannot run here, before any model is made for it:
    EngineError where a library is missing, or TensorRT's engines cannot be kept."""
    if provider not in INSTALL:
        return
    cache = runtime.tensorrt.trt_engine_cache_path
    if provider == "tensorrt" and runtime.tensorrt.trt_engine_cache_enable and cache is not None:
        _require_engine_cache(cache)
    missing = find_missing(provider)
    if missing:
        raise _not_running(provider, f"cannot load {', '.join(missing)}")


def _require_engine_cache(folder: Path) -> None:
    """Make the folder of TensorRT's engines. TensorRT itself says nothing where it cannot write,
    and builds its engines again, for minutes, each time."""
    try:
        folder.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise EngineError(
            "TensorRT's engines cannot be kept in this folder",
            where=f"runtime.tensorrt.trt_engine_cache_path: {folder}",
            got=error.strerror,
            expected="a folder that can be written",
            hint="give another folder, or set trt_engine_cache_enable: false",
        ) from error


def check_provider(provider: str, actual: Sequence[str]) -> None:
    """Refuse a session that does not run on the provider that was asked for by name, by what its
    get_providers() says, best first."""
    if provider == "auto":
        if has_nvidia_driver() and actual[0] == CPU:
            log.warning("provider auto: CUDA could not be loaded, running on %s", CPU)
        return
    if actual[0] != NAMES[provider]:
        raise _not_running(provider, ", ".join(actual))


def check_options(requested: Options, read_back: Mapping[str, Mapping[str, str]]) -> Options:
    """Refuse a session in which an option has another value than the one that was asked for.

    Args:
        requested: by provider; those that do not run are not looked at.
        read_back: session.get_provider_options(); what was asked for of it is returned.
    """
    found: Options = {}
    for name in read_back:
        found[name] = {}
        for key, value in requested.get(name, {}).items():
            actual = read_back[name].get(key)
            if actual is None or _plain(actual) != _plain(value):
                raise EngineError(
                    f"{name} does not have the option that was asked for",
                    where=key,
                    got="nothing reads back" if actual is None else actual,
                    expected=value,
                    hint="this version of ONNX Runtime may not know it: see `runtime` in the "
                    "config, and the versions in constraints.txt",
                )
            found[name][key] = actual
    return found


def _not_running(provider: str, got: str) -> EngineError:
    return EngineError(
        f"provider {provider} was asked for and does not run",
        where="ONNX Runtime session",
        got=got,
        expected=NAMES[provider],
        hint=f"{INSTALL.get(provider, 'reinstall onnxruntime')}; "
        "or --engine onnx --provider auto, which may fall back and says so",
    )


def _text(value: object) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)


def _plain(value: str) -> str:
    """Providers read booleans back as 1 and 0, or as True and False."""
    return {"true": "1", "false": "0"}.get(value.lower(), value)
