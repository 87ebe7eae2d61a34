"""What lies around a run decides nothing: pytest's filters, its ways to stop, a lost terminal."""

from __future__ import annotations

import io
import json
import os
import struct
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from pillsnap.compare.outcome import Outcome
from pillsnap.config.cells import Cell, Shard
from pillsnap.plugin.hooks import GateItem
from tests.core.distributions import register_distribution
from tests.plugin.project import WITHOUT, Project, Workers

SINGLES = ("-m", "smoke", "--stage", "classification")


def write_damaged_exif(photo: Path) -> None:
    """The same pixels in a JPEG whose EXIF block says that it has nine entries, and has one."""
    buffer = io.BytesIO()
    Image.open(photo).save(buffer, "JPEG", quality=95)
    data = buffer.getvalue()
    tags = struct.pack("<HHHIHH", 9, 0x0112, 3, 1, 1, 0)
    block = b"Exif\0\0II*\0\x08\0\0\0" + tags
    head = data[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2)
    photo.with_suffix(".jpg").write_bytes(head + block + data[2:])
    photo.unlink()


def test_pytests_filters_do_not_decide_whether_a_photo_can_be_read(project: Project) -> None:
    for photo in (project.path / "single").rglob("*.png"):
        write_damaged_exif(photo)
    project.write_fault(
        """
import warnings
def fault(stage, batch, output):
    warnings.warn("as torch and numpy do")
    return output
"""
    )
    (project.path / "strict_items.py").write_text(
        """
import pytest
def pytest_itemcollected(item):
    item.add_marker(pytest.mark.filterwarnings("error"))
"""
    )
    result = project.run(*SINGLES, "-p", "strict_items")  # under `filterwarnings = error`
    assert result.ret == 0
    # pytest still lists what was warned of.
    result.stdout.fnmatch_lines(["*Corrupt EXIF data*", "*as torch and numpy do*"])


def test_packages_over_one_another_are_named_at_the_start_and_at_the_end(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    register_distribution(project.path / "packages", "onnxruntime", "1.32.0")
    monkeypatch.setenv("PYTHONPATH", str(project.path / "packages"), prepend=os.pathsep)
    result = project.run(*SINGLES)
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "pillsnap warning: onnxruntime is installed 2 times*",
            "collected*",
            "warning: onnxruntime is installed 2 times*",
        ]
    )


@pytest.mark.parametrize("spread", [(), ("-n", "2")], ids=["none", "n2"])
def test_stopped_by_x_after_a_failure_is_exit_1(project: Project, spread: Workers) -> None:
    for photo in (project.path / "single").rglob("*.png"):
        photo.write_bytes(b"")
    result = project.run(*SINGLES, "-x", *spread)
    assert result.ret == 1
    gate = project.report()["gate"]
    assert (gate["exit_code"], gate["complete"]) == (1, False)
    assert gate["missing"]
    assert not list((project.path / "exp/runs").glob("*/done"))  # --resume may go on with it


def test_the_tags_commit_is_that_of_the_configs_folder(project: Project) -> None:
    """As the report's is: the folder that a run is started in may be another repository's."""
    for folder, name in ((project.path, "here"), (project.path / "elsewhere", "there")):
        folder.mkdir(exist_ok=True)
        for words in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", name]):
            git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(folder), *words]
            subprocess.run(git, check=True)
    (project.path / "config.yaml").rename(project.path / "elsewhere/config.yaml")
    project.run(*SINGLES, "--config=elsewhere/config.yaml")
    (report,) = (project.path / "elsewhere/exp/export/reports").glob("*.json")
    sha = json.loads(report.read_text())["provenance"]["git_sha"]
    assert report.name.split("-")[2] == sha != "nogit"


def test_a_selection_that_leaves_no_item_says_so(project: Project) -> None:
    result = project.run(*SINGLES, "-k", "nothing_of_that_name")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["nothing was measured: no item of the gate was selected*-k*"])


def test_a_config_that_the_environment_names_must_be_there(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project.path / "config.yaml").rename(project.path / "other.yaml")
    assert project.run(engine=None).ret == 0  # no config by chance: a plain run has no gate
    monkeypatch.setenv("PILLSNAP_CONFIG", "nowhere.yaml")
    result = project.run(engine=None)
    assert result.ret == 4
    assert "nowhere.yaml" in result.stderr.str()


@pytest.mark.parametrize(
    ("redirection", "logits", "code"), [(">&-", "output", 0), ("> /dev/full", "-output", 1)]
)
def test_a_run_without_standard_output_ends_as_with_one(
    project: Project, redirection: str, logits: str, code: int
) -> None:
    project.write_fault(f"def fault(stage, batch, output):\n    return {logits}\n")
    command = [sys.executable, "-m", "pytest", *WITHOUT, *SINGLES, "--engine", "numpy"]
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {redirection}', "sh", *command],
        cwd=project.path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert (done.returncode, project.report()["gate"]["exit_code"]) == (code, code)
    assert ("No space left on device" in done.stderr) == ("full" in redirection)


def test_a_warning_is_no_error_in_an_item_of_a_plain_run() -> None:
    """Whose filters are the project's own, as its other tests are."""
    shard = Shard(Cell("classification", "onnx", "cpu", "fp32", "smoke"), 1, 1)

    class Run:
        def run(self, shard: Shard) -> Outcome:
            warnings.warn("as Pillow does", stacklevel=1)
            return Outcome(shard.id)

    item: Any = SimpleNamespace(user_properties=[])
    run: Any = Run()
    with pytest.warns(UserWarning, match="as Pillow does"), warnings.catch_warnings():
        warnings.simplefilter("error")
        assert GateItem(shard, run, item).run() == Outcome(shard.id)
