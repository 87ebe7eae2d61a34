"""Shards, workers, the reference cache, hard samples and class coverage, in real inner runs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pillsnap.config.cells import Cell
from pillsnap.config.load import load_config
from pillsnap.config.selection import Selection
from pillsnap.gate.plan import Plan
from tests.core.gpus import nvml_folder
from tests.plugin.project import Project, Workers
from tests.plugin.test_runs import without_times

# Drift that differs from image to image, and a few flips.
DRIFT = """
def fault(stage, batch, output):
    drift = np.float32(2.0) * batch.mean(axis=(1, 2, 3))
    output[..., 0] += drift.reshape(-1, *[1] * (output.ndim - 2))
    return output
"""

# The sample K-<c>/<n>.png has the colour of class c at the shade 0.8 + 0.04 n.
FLIP = """
from tests.plugin.numpy_engine import COLOURS
def is_sample(batch, index, number):
    shade = COLOURS[index] * (0.8 + 0.04 * number)
    return np.abs(batch.mean(axis=(2, 3)) - shade).max(axis=1) < 0.004
def flip(output, where):
    output[where] = np.roll(output[where], 1, axis=1)
    return output
"""

LOG_CALLS = """
import os
def log(name, batch):
    file = os.open({path!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(file, f"{{name}} {{len(batch)}}\\n".encode())
    os.close(file)
def watch(stage, batch):
    log("reference-" + stage, batch)
def fault(stage, batch, output):
    log("candidate-" + stage, batch)
    return output
"""


def cell_of(project: Project, name: str) -> dict[str, Any]:
    """The cell of a stage, or of an id."""
    cells = project.report()["cells"]
    (found,) = [
        cell for cell in cells if name == cell["id"] or (name == cell["stage"] and not cell["hard"])
    ]
    return found


def use(project: Project, **compare: Any) -> None:
    project.settings["export"]["compare"].update(compare)
    project.write_config()


@pytest.fixture
def calls(project: Project) -> Path:
    """A file with a line for each batch that an engine was given."""
    path = project.path / "calls.txt"
    project.write_fault(LOG_CALLS.format(path=str(path)))
    return path


def count(calls: Path, name: str) -> int:
    """Images that an engine was given since this was last asked."""
    lines = calls.read_text().splitlines() if calls.exists() else []
    return sum(int(line.split()[1]) for line in lines if line.startswith(name))


# ---------------------------------------------------------------------------- shards and workers


def test_reports_are_the_same_for_any_workers_and_shards(project: Project) -> None:
    project.write_fault(DRIFT)
    use(project, per_class_k=6, hard_per_bin=3, hardness_bins=[0.25, 0.7, 0.9, 1.0])
    reports = []
    for spread, size in (((), 4), (("-n", "0"), 2), (("-n", "2"), 4), (("-n", "4"), 100)):
        use(project, shard_size=size)
        assert project.run("-m", "coverage", "--threads", "1", *spread).ret == 1
        reports.append(without_times(project.report()))
    names = [cell["id"] for cell in reports[0]["cells"]]
    assert names[-1] == "classification-numpy-auto-fp32-coverage-hard"
    assert reports[0]["cells"][1]["metrics"]["mse_mean"] > 0
    for report in reports[1:]:
        assert json.dumps(report) == json.dumps(reports[0])


# ---------------------------------------------------------------------------- a cell as a whole


def test_flips_that_cluster_in_one_shard_breach_the_cell(
    project: Project, workers: Workers
) -> None:
    use(project, tolerances={"profile": "practical"})
    project.write_fault(
        FLIP
        + """
def fault(stage, batch, output):
    if stage == "detection":
        return output
    return flip(output, is_sample(batch, 0, 0) | is_sample(batch, 0, 1) | is_sample(batch, 0, 2))
"""
    )
    assert project.run("-m", "full", *workers).ret == 1
    cell = cell_of(project, "classification")
    assert cell["verdict"] == "breach"
    assert cell["metrics"]["top1_mismatch_rate"] == 3 / 24
    assert "top1_mismatch_rate" in {breach["figure"] for breach in cell["breaches"]}
    flipped = [case["sample"] for case in cell["metrics"]["boundary_cases"] if case["flipped"]]
    assert sorted(flipped) == ["K-0/0.png", "K-0/1.png", "K-0/2.png"]


def test_one_flip_is_a_share_of_its_cell_not_of_its_shard(
    project: Project, workers: Workers
) -> None:
    # One of four in its shard; one of 24 in its cell.
    loose = {"mse_mean": None, "mse_p99": None, "top1_mismatch_rate": 0.05}
    use(project, tolerances={"profile": "practical", "practical": loose})
    source = """
def fault(stage, batch, output):
    return output if stage == "detection" else flip(output, is_sample(batch, 2, 4))
"""
    project.write_fault(FLIP + source)
    assert project.run("-m", "full", *workers).ret == 0
    cell = cell_of(project, "classification")
    assert (cell["verdict"], cell["metrics"]["top1_judged_flips"]) == ("within_tolerance", 1)
    use(project, tolerances={"profile": "practical", "practical": {**loose, "mse_mean": 0.001}})
    assert project.run("-m", "full", *workers).ret == 1


def test_a_class_that_always_flips_is_named(project: Project, workers: Workers) -> None:
    project.write_fault(
        FLIP
        + """
def fault(stage, batch, output):
    if stage == "detection":
        return output
    return flip(output, np.any([is_sample(batch, 2, number) for number in range(6)], axis=0))
"""
    )
    assert project.run("-m", "full", "--stage", "classification", *workers).ret == 1
    cell = cell_of(project, "classification")
    assert cell["verdict"] == "breach"
    assert cell["metrics"]["worst_classes"] == [
        {"class_index": 2, "class_name": "K-2", "samples": 6, "flips": 6, "rate": 1.0}
    ]
    case = cell["metrics"]["boundary_cases"][0]
    named = (case["reference_class_name"], case["candidate_class_name"])
    assert named == ("K-2", f"K-{case['candidate_class']}")
    said = "class 2 (K-2) flips on all of its samples"
    assert any(said in cause for cause in cell["likely_causes"])


# ---------------------------------------------------------------------------- coverage


def test_classes_that_are_missing_are_said_and_breach_only_when_required(
    project: Project, workers: Workers
) -> None:
    use(project, min_classes=7)
    result = project.run("-m", "coverage", *workers)
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        ["note: classification: classes asked for 7, in the data 4, covered 4"]
    )
    metrics = cell_of(project, "classification")["metrics"]
    assert {name: metrics[f"classes_{name}"] for name in ("asked", "available", "covered")} == {
        "asked": 7,
        "available": 4,
        "covered": 4,
    }
    # A detector of one class cannot have seven.
    assert cell_of(project, "detection")["metrics"]["classes_missing"] == 0
    use(project, min_classes_required=True)
    assert project.run("-m", "coverage", *workers).ret == 1
    cell = cell_of(project, "classification")
    assert (cell["verdict"], cell["reason"]) == ("breach", "classes_missing 3 > 0")
    assert cell["looser_profile"] is None
    # Other modes ask for none.
    assert project.run("-m", "smoke", *workers).ret == 0


def test_hard_samples_are_a_cell_of_their_own(project: Project, workers: Workers) -> None:
    use(project, hard_per_bin=3, hardness_bins=[0.25, 0.7, 0.9, 1.0], shard_size=4)
    listing = project.run("-m", "coverage", "--collect-only", "-q", *workers).stdout.str()
    assert listing.count("coverage-hard-s") == 3  # nine samples in shards of four
    assert project.run("-m", "coverage", *workers).ret == 0
    hard = cell_of(project, "classification-numpy-auto-fp32-coverage-hard")
    population = cell_of(project, "classification-numpy-auto-fp32-coverage")
    assert hard["hard"] is True
    assert population["samples"] == 4  # one of each class, hard or not
    assert 3 <= hard["samples"] <= 9
    assert hard["metrics"]["samples"] == hard["samples"]
    records = project.path / "exp" / "runs"
    assert list(records.glob("*/records/*-coverage-hard-s001of003.records"))


def test_a_golden_bundle_leaves_hard_samples_out(project: Project, tmp_path: Path) -> None:
    use(project, hard_per_bin=3, hardness_bins=[0.25, 0.7, 0.9, 1.0], shard_size=4)
    bundle = tmp_path / "bundle"
    assert project.run("-m", "coverage", "--save-reference", str(bundle)).ret == 0
    ids = [cell["id"] for cell in project.report()["cells"]]
    assert "classification-numpy-auto-fp32-coverage-hard" in ids
    # They are of a pool that the reference scores, and the bundle has no reference that could.
    manifest = json.loads((bundle / "manifest.json").read_text())
    shards = [name for cell in manifest["cells"] for name in cell["shards"]]
    assert len(manifest["cells"]) == 2
    assert len(shards) == len(set(shards))
    assert not any("hard" in name for name in shards)
    # Nor do their files take the place of others, and a run over the bundle has no such cell.
    config = load_config(project.path / "config.yaml", {})
    known, kept = Plan(config, Selection()), Plan(config, Selection(reference=bundle))
    cell = Cell("classification", "onnx", "auto", "fp32", "coverage")
    ids = [[sample.id for sample in plan.samples(cell)] for plan in (known, kept)]
    assert ids[0] == ids[1]
    assert [any(each.hard for each in plan.cells()) for plan in (known, kept)] == [True, False]


# ---------------------------------------------------------------------------- reference cache


def test_a_second_candidate_costs_no_reference(
    project: Project, calls: Path, workers: Workers
) -> None:
    options = ("-m", "full", "--threads", "1", *workers)
    assert project.run(*options).ret == 0
    assert count(calls, "reference-classification") == 24
    first = without_times(project.report())
    calls.unlink()
    assert project.run(*options).ret == 0
    assert count(calls, "reference") == 0
    assert count(calls, "candidate-classification") == 24
    assert without_times(project.report()) == first
    calls.unlink()
    assert project.run(*options, "--no-reference-cache").ret == 0
    assert count(calls, "reference-classification") == 24
    assert without_times(project.report())["cells"] == first["cells"]


@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
def test_a_damaged_entry_is_computed_anew(project: Project, calls: Path, damage: str) -> None:
    options = ("-m", "full", "--threads", "1", "--stage", "classification")
    assert project.run(*options).ret == 0
    report = without_times(project.report())
    entries = list((project.path / "exp" / "cache").rglob("*.npy"))
    for entry in entries:
        data = bytearray(entry.read_bytes())
        data[-1] ^= 1
        entry.write_bytes({"flip": bytes(data), "cut": bytes(data[:-9]), "empty": b""}[damage])
    calls.unlink()
    assert project.run(*options).ret == 0
    assert count(calls, "reference") == 24
    assert without_times(project.report()) == report


def test_a_changed_image_is_asked_anew(project: Project, calls: Path) -> None:
    options = ("-m", "full", "--threads", "1", "--stage", "classification")
    assert project.run(*options).ret == 0
    calls.unlink()
    image = project.path / "single" / "K-1" / "3.png"
    image.write_bytes((project.path / "single" / "K-1" / "4.png").read_bytes())
    assert project.run(*options).ret == 0
    assert count(calls, "reference") == 2  # its batch


def test_the_cache_keeps_to_its_bound(project: Project, calls: Path) -> None:
    use(project, reference_cache_gib=3000 / 2**30)
    assert project.run("-m", "full", "--threads", "1").ret == 0
    entries = (project.path / "exp" / "cache").rglob("*.npy")
    assert sum(entry.stat().st_size for entry in entries) <= 3000
    use(project, reference_cache_gib=0)
    calls.unlink()
    assert project.run("-m", "full", "--threads", "1").ret == 0
    assert count(calls, "reference-classification") == 24


def test_a_cache_that_cannot_be_written_costs_no_run(project: Project, workers: Workers) -> None:
    exp = project.path / "exp"
    exp.mkdir()
    (exp / "cache").write_text("in the way")
    assert project.run("-m", "smoke", *workers).ret == 0


# ---------------------------------------------------------------------------- workers on a GPU


@pytest.fixture
def all_cpus() -> Iterator[None]:
    """Also for a worker of these tests, which has its own."""
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, range(os.cpu_count() or 1))
    yield
    os.sched_setaffinity(0, own)


def test_gpu_memory_bounds_the_workers_of_n_auto(
    all_cpus: None, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.settings["runtime"] = {"cuda": {"device_id": 1}}
    project.write_config()
    monkeypatch.setenv("LD_LIBRARY_PATH", str(nvml_folder()))
    monkeypatch.setenv("PILLSNAP_GPUS", f"A,GPU-a,{2**40},-\nB,GPU-b,{5000 * 2**20},-")
    # Of engine numpy no worker is on a GPU.
    assert "created: 2/2 workers" in project.run("-m", "smoke", "-n", "auto").stdout.str()
    result = project.run("-m", "smoke", "-n", "auto", engine="onnx")
    assert "created: 1/1 worker" in result.stdout.str()
