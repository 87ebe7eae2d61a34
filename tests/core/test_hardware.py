"""What the machine has: a small NVML of our own, loaded as the real one is."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from pillsnap.core import packages
from pillsnap.core.hardware import cpu_name
from pillsnap.core.packages import gpu_library_version, version_text
from tests.core.gpus import ask


def test_the_processor_has_a_name() -> None:
    name = cpu_name()
    assert name
    assert name == name.strip()
    assert ":" not in name


needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")

GIB = 2**30
H100 = f"NVIDIA H100 80GB HBM3,GPU-aa,{79 * GIB},{GIB // 2}"
T4 = f"Tesla T4,GPU-bb,{14 * GIB},-"
SILENT = "A GPU that tells no memory,GPU-cc,0,-"

EVERYTHING = "[[gpu_name(i), gpu_free_mib(i), gpu_process_mib(i)] for i in range(2)]"


@needs_compiler
def test_each_gpu_is_named_and_measured_by_its_number() -> None:
    h100 = ["NVIDIA H100 80GB HBM3, 580.1", 79 * 1024, 512.0]
    t4 = ["Tesla T4, 580.1", 14 * 1024, None]  # what another process takes is not ours
    assert ask(EVERYTHING, H100, T4) == [h100, t4]
    assert ask(EVERYTHING, T4) == [t4, [None] * 3]
    # CUDA counts the GPUs that it is shown.
    assert ask(EVERYTHING, H100, T4, CUDA_VISIBLE_DEVICES="1,0") == [t4, h100]
    assert ask(EVERYTHING, H100, T4, CUDA_VISIBLE_DEVICES="GPU-bb") == [t4, [None] * 3]
    assert ask(EVERYTHING, H100, CUDA_VISIBLE_DEVICES="") == [[None] * 3] * 2


@needs_compiler
def test_memory_that_is_not_told_is_not_known() -> None:
    # As of a GPU that shares the memory of its machine.
    assert ask("[gpu_name(), gpu_free_mib()]", SILENT) == [SILENT.split(",")[0] + ", 580.1", None]


@needs_compiler
def test_a_driver_that_does_not_answer_is_no_gpu() -> None:
    assert ask(EVERYTHING) == [[None] * 3] * 2


@pytest.mark.parametrize(
    ("number", "steps", "text"),
    [
        (91002, (10000, 100, 1), "9.10.2"),
        (101601, (10000, 100, 1), "10.16.1"),
        (13000, (1000, 10), "13.0"),
        (12080, (1000, 10), "12.8"),
    ],
)
def test_versions_of_gpu_libraries(number: int, steps: tuple[int, ...], text: str) -> None:
    assert version_text(number, steps) == text


@needs_compiler
def test_a_library_of_the_system_is_asked_for_its_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, library = tmp_path / "gpu.c", tmp_path / "libgpu.so"
    source.write_text(
        "int cudaRuntimeGetVersion(int *v) { *v = 13020; return 0; }\n"
        "int getInferLibVersion(void) { return 101601; }\n"
    )
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    for name, function, found in (
        ("cuda", "cudaRuntimeGetVersion", "13.2"),
        ("tensorrt", "getInferLibVersion", "10.16.1"),
        ("cudnn", "cudnnGetVersion", None),  # a library without it
    ):
        steps = packages.GPU_LIBRARIES[name][1][2]
        # A package that pip installed comes first, and there is none of this name.
        entry = (("no-such-distribution",), (str(library), function, steps))
        monkeypatch.setitem(packages.GPU_LIBRARIES, name, entry)
        assert gpu_library_version(name) == found
        gone = (("no-such-distribution",), (str(tmp_path / "gone.so"), function, steps))
        monkeypatch.setitem(packages.GPU_LIBRARIES, name, gone)
        assert gpu_library_version(name) is None
    monkeypatch.setitem(packages.GPU_LIBRARIES, "cuda", (("numpy",), ("", "", (1,))))
    assert gpu_library_version("cuda") == packages.package_version("numpy")
