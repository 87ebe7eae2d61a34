"""What the machine has: a small nvidia-smi of our own, run as the real one is."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pillsnap import versions
from pillsnap.hardware import cpu_name, gpu_free_mib, gpu_name, gpu_used_mib
from pillsnap.versions import gpu_library_version, version_text

# As nvidia-smi does: a table of --query-gpu in the form of --format, refusing all else.
NVIDIA_SMI = """#!{python}
import shutil
import subprocess
import sys

gpus = {gpus!r}
options = dict(word.split("=", 1) for word in sys.argv[1:])
if options.keys() != {{"--query-gpu", "--format"}}:
    sys.exit(f"Invalid combination of input arguments: {{sys.argv}}")
form = options["--format"].split(",")
if form[0] != "csv" or not set(form[1:]) <= {{"noheader", "nounits"}}:
    sys.exit(f"Invalid format: {{form}}")
fields = options["--query-gpu"].split(",")
if not set(fields) <= {{"name", "driver_version", "memory.free", "memory.used"}}:
    sys.exit(f"Field is not a valid field to query: {{fields}}")
if "noheader" not in form:
    print(", ".join(fields))
for gpu in gpus:
    cells = [str(gpu[field]) for field in fields]
    if "nounits" not in form:
        cells = [c + " MiB" if f.startswith("memory") else c for f, c in zip(fields, cells)]
    print(", ".join(cells))
"""

H100 = {"name": "NVIDIA H100 80GB HBM3", "driver_version": "570.133.20"}
H100 |= {"memory.free": 80992, "memory.used": 567}
T4 = {"name": "Tesla T4", "driver_version": "570.133.20", "memory.free": 14910}

Script = Callable[[str], None]


@pytest.fixture
def nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Script]:
    """Puts a program of that name, and no other, on the PATH; without a call there is none."""

    def install(text: str) -> None:
        path = tmp_path / "nvidia-smi"
        path.write_text(text)
        path.chmod(0o755)
        gpu_name.cache_clear()

    monkeypatch.setenv("PATH", str(tmp_path))
    gpu_name.cache_clear()
    yield install
    gpu_name.cache_clear()  # what the other tests are told is the machine's own


def machine(*gpus: dict[str, object]) -> str:
    return NVIDIA_SMI.format(python=sys.executable, gpus=list(gpus))


def test_the_processor_has_a_name() -> None:
    name = cpu_name()
    assert name
    assert name == name.strip()
    assert ":" not in name


def test_without_nvidia_smi_there_is_no_gpu(nvidia_smi: Script) -> None:
    assert gpu_name() is None
    assert gpu_free_mib() is None
    assert gpu_used_mib() is None


def test_the_first_gpu_is_named_and_measured(nvidia_smi: Script) -> None:
    nvidia_smi(machine(H100))
    assert gpu_name() == "NVIDIA H100 80GB HBM3, 570.133.20"
    assert gpu_free_mib() == 80992
    assert gpu_used_mib() == 567
    nvidia_smi(machine(T4, H100))
    assert gpu_name() == "Tesla T4, 570.133.20"
    assert gpu_free_mib() == 14910


def test_free_memory_is_what_is_free_now(nvidia_smi: Script) -> None:
    nvidia_smi(machine(H100))
    assert gpu_free_mib() == 80992
    nvidia_smi(machine({**H100, "memory.free": 0}))
    assert gpu_free_mib() == 0


def test_memory_that_is_not_told_is_not_known(nvidia_smi: Script) -> None:
    # As of a GPU that shares the memory of its machine.
    nvidia_smi(machine({**H100, "memory.free": "[N/A]"}))
    assert gpu_free_mib() is None
    assert gpu_name() == "NVIDIA H100 80GB HBM3, 570.133.20"


@pytest.mark.parametrize(
    "text",
    [
        "#!/bin/sh\necho 'NVIDIA-SMI has failed: no driver'; exit 9\n",
        "#!/bin/sh\nkill -9 $$\n",
        "#!/bin/sh\n",
        "#!/bin/sh\necho\necho '  '\n",
        "#!/nowhere/python\n",
        "no program",
    ],
)
def test_an_nvidia_smi_that_fails_is_no_gpu(nvidia_smi: Script, text: str) -> None:
    nvidia_smi(text)
    assert gpu_name() is None
    assert gpu_free_mib() is None


def test_a_gpu_is_asked_for_its_name_once(nvidia_smi: Script, tmp_path: Path) -> None:
    log = tmp_path / "log"
    nvidia_smi(f"#!/bin/sh\necho x >> {log}\necho 'Tesla T4, 1'\n")
    assert [gpu_name(), gpu_name()] == ["Tesla T4, 1"] * 2
    assert log.read_text() == "x\n"


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


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
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
        steps = versions.GPU_LIBRARIES[name][1][2]
        # A package that pip installed comes first, and there is none of this name.
        entry = (("no-such-distribution",), (str(library), function, steps))
        monkeypatch.setitem(versions.GPU_LIBRARIES, name, entry)
        assert gpu_library_version(name) == found
        gone = (("no-such-distribution",), (str(tmp_path / "gone.so"), function, steps))
        monkeypatch.setitem(versions.GPU_LIBRARIES, name, gone)
        assert gpu_library_version(name) is None
    monkeypatch.setitem(versions.GPU_LIBRARIES, "cuda", (("numpy",), ("", "", (1,))))
    assert gpu_library_version("cuda") == versions.package_version("numpy")
