"""What the machine has: a small nvidia-smi of our own, run as the real one is."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pillsnap.hardware import cpu_name, gpu_free_mib, gpu_name

# As nvidia-smi does: a table of --query-gpu in the form of --format, refusing all else.
NVIDIA_SMI = """#!{python}
import sys

gpus = {gpus!r}
options = dict(word.split("=", 1) for word in sys.argv[1:])
if options.keys() != {{"--query-gpu", "--format"}}:
    sys.exit(f"Invalid combination of input arguments: {{sys.argv}}")
form = options["--format"].split(",")
if form[0] != "csv" or not set(form[1:]) <= {{"noheader", "nounits"}}:
    sys.exit(f"Invalid format: {{form}}")
fields = options["--query-gpu"].split(",")
if not set(fields) <= {{"name", "driver_version", "memory.free"}}:
    sys.exit(f"Field is not a valid field to query: {{fields}}")
if "noheader" not in form:
    print(", ".join(fields))
for gpu in gpus:
    cells = [str(gpu[field]) for field in fields]
    if "nounits" not in form:
        cells = [c + " MiB" if f == "memory.free" else c for f, c in zip(fields, cells)]
    print(", ".join(cells))
"""

H100 = {"name": "NVIDIA H100 80GB HBM3", "driver_version": "570.133.20", "memory.free": 80992}
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


def test_the_first_gpu_is_named_and_measured(nvidia_smi: Script) -> None:
    nvidia_smi(machine(H100))
    assert gpu_name() == "NVIDIA H100 80GB HBM3, 570.133.20"
    assert gpu_free_mib() == 80992
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
