"""How runs go: equal reports however spread, lost workers, interruptions, wrong options."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from typing import Any

import pytest

from pillsnap.config.cells import STAGES
from tests.plugin.project import WITHOUT, Project, Workers, check_schema, heed_interrupts


def without_times(report: dict[str, Any]) -> dict[str, Any]:
    """The report less its timestamps and timings."""
    report = json.loads(json.dumps(report))
    for cell in report["cells"]:
        del cell["seconds"], cell["performance"]
    for key in ("run", "started_at_utc"):
        del report["provenance"][key]
    del report["environment"]["load"]
    return report


def test_reports_are_equal_however_the_run_is_spread(project: Project) -> None:
    project.write_fault(
        """
def fault(stage, batch, output):
    drift = np.float32(2.0) * batch.mean(axis=(1, 2, 3))
    output[..., 0] += drift.reshape(-1, *[1] * (output.ndim - 2))
    return output
"""
    )
    reports = []
    for spread in ((), ("-n", "0"), ("-n", "2")):
        assert project.run("-m", "smoke", "--threads", "1", *spread).ret == 1
        reports.append(without_times(project.report()))
    assert reports[0]["cells"][1]["metrics"]["mse_mean"] > 0
    assert reports[1] == reports[0]
    assert reports[2] == reports[0]


def test_figures_do_not_depend_on_the_shards(project: Project) -> None:
    reports = []
    for size in (1, 4, 100):
        project.settings["export"]["compare"]["shard_size"] = size
        project.write_config()
        assert project.run("-m", "full", "--threads", "1").ret == 0
        reports.append([cell["metrics"] for cell in project.report()["cells"]])
    assert reports[0] == reports[1] == reports[2]


def test_lost_worker_leaves_an_incomplete_run(project: Project) -> None:
    project.write_fault(
        """
import os
def fault(stage, batch, output):
    if stage == "detection":
        os._exit(11)
    return output
"""
    )
    result = project.run("-m", "smoke", "-n", "2")
    assert result.ret == 3
    gate = project.report()["gate"]
    assert (gate["exit_code"], gate["complete"]) == (3, False)
    assert gate["missing"]
    assert all(name.startswith("detection-numpy-auto-fp32-smoke-s") for name in gate["missing"])
    result.stdout.fnmatch_lines(["MISSING detection-numpy-auto-fp32-smoke-s*"])


@pytest.mark.parametrize("spread", [(), ("-n", "2")], ids=["none", "n2"])
def test_interrupted_run_exits_2_and_says_it_is_incomplete(
    project: Project, spread: Workers
) -> None:
    started = project.path / "started"
    project.write_fault(
        f"""
import pathlib, time
def fault(stage, batch, output):
    pathlib.Path({str(started)!r}).touch()
    time.sleep(0.5)
    return output
"""
    )
    command = [
        sys.executable,
        "-m",
        "pytest",
        *WITHOUT,
        "-m",
        "smoke",
        "--engine",
        "numpy",
        *spread,
    ]
    process = subprocess.Popen(
        command,
        cwd=project.path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=heed_interrupts,
    )
    try:
        deadline = time.monotonic() + 60
        while not started.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 2
    finally:
        process.kill()
    gate = project.report()["gate"]
    assert (gate["exit_code"], gate["complete"]) == (2, False)
    assert gate["missing"]


def test_report_that_cannot_be_written_is_exit_3(project: Project, workers: Workers) -> None:
    reports = project.path / "exp" / "export" / "reports"
    reports.parent.mkdir(parents=True)
    reports.write_text("in the way")
    result = project.run("-m", "smoke", *workers)
    assert result.ret == 3
    result.stdout.fnmatch_lines(["report not written: *"])
    assert "Traceback" not in result.stdout.str() + result.stderr.str()


def test_skipped_gate_names_the_path_and_is_no_pass(project: Project, workers: Workers) -> None:
    result = project.run("-m", "smoke", *workers, engine=None)
    assert result.ret == 1
    result.assert_outcomes(skipped=6, deselected=0)
    report = project.report()
    assert (report["gate"]["verdict"], report["gate"]["exit_code"]) == (None, 1)
    assert report["stages"] == {"detection": None, "classification": None}
    assert report["backbone"] is None
    for stage in ("detection", "classification"):
        path = project.path / "exp" / "checkpoints" / f"{stage}_best.pt"
        assert any(str(path) in reason for reason in report["gate"]["skipped"].values())


def test_plain_run_without_checkpoints_is_no_failure(project: Project, workers: Workers) -> None:
    assert project.run(*workers, engine=None).ret == 0


def test_gate_option_runs_gate_items_alone(project: Project, workers: Workers) -> None:
    other = project.path / "tests" / "test_other.py"
    other.write_text("import a_module_that_the_gate_does_not_need\n")
    assert project.run(*workers).ret == 0  # --engine numpy, no -m
    assert len(project.report()["cells"]) == 2
    assert project.run("-m", "smoke", *workers).ret == 0
    other.write_text("def test_other(): assert False\n")
    assert project.run(*workers, engine=None).ret == 1  # plain: test_other runs, and fails


def test_gate_that_measured_nothing_fails(project: Project, workers: Workers) -> None:
    assert project.run("-m", "smoke", "-k", "nothing_of_that_name", *workers).ret == 1
    assert not project.report_path.exists()


def test_modes_follow_the_marker(project: Project, workers: Workers) -> None:
    project.settings["export"]["compare"]["per_class_k"] = 2
    project.write_config()
    for mode, singles in (("coverage", 8), ("full", 24)):
        assert project.run("-m", mode, *workers).ret == 0
        report = project.report()
        found = {cell["stage"]: (cell["mode"], cell["samples"]) for cell in report["cells"]}
        assert found["classification"] == (mode, singles)
        assert list((project.path / "exp/export/reports").glob(f"*-{mode}-*.json"))


def test_part_of_a_cell_is_not_judged(project: Project, workers: Workers) -> None:
    assert project.run("-m", "smoke", "-k", "s001of", "--no-html", *workers).ret == 1
    assert not project.report_path.with_suffix(".html").exists()
    for cell in project.report()["cells"]:
        assert (cell["verdict"], cell["reason"]) == ("inconclusive", "1 of 3 shards reported")


@pytest.mark.parametrize("verbosity", ["-q", "-v", "-vv"])
def test_section_fits_80_columns(project: Project, verbosity: str) -> None:
    project.write_fault("def fault(stage, batch, output):\n    return output * 1.2\n")
    lines = project.run("-m", "smoke", verbosity, "--color=yes").outlines
    start = next(index for index, line in enumerate(lines) if "pillsnap gate" in line)
    section = lines[start + 1 :]
    assert section[0].startswith("BREACH")
    assert section[-1].startswith("report: ")
    # The paths of report and page may be long; they must stay in one piece.
    assert section[-2].startswith("page: ")
    assert [line for line in section[:-2] if len(line) > 80] == []
    rows = [line for line in section if line.startswith(("detection-", "classification-"))]
    assert len(rows) == 2
    assert all(line.endswith("breach") for line in rows)


def test_two_runs_at_once_keep_both_reports(project: Project) -> None:
    command = [sys.executable, "-m", "pytest", *WITHOUT, "-m", "smoke", "--engine", "numpy", "-q"]
    runs = [
        subprocess.Popen(command, cwd=project.path, stdout=subprocess.DEVNULL) for _ in range(3)
    ]
    assert [process.wait(120) for process in runs] == [0, 0, 0]
    reports = sorted((project.path / "exp" / "export" / "reports").glob("*.json"))
    assert len(reports) == 3
    for path in (*reports, project.report_path):
        check_schema(json.loads(path.read_text()))
    assert list(project.report_path.parent.glob(".*.tmp")) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--engine", "onxx"), "expected: onnx, tensorrt, openvino, torch, numpy"),
        (("--provider", "xpu"), "expected: auto, cpu, cuda, tensorrt, gpu, npu"),
        (("--precision", "fp8"), "expected: fp32, fp16, int8"),
        (("--int8-method", "static"), "add --precision int8"),
        (("--precision", "int8", "--int8-method", "fast"), "expected: static, dynamic, auto"),
        (("--stage", "detect"), "expected: detection, classification"),
        (("--engine", "tensorrt", "--provider", "cpu"), "tensorrt, or no --provider"),
        (("--candidate", "model.onnx"), "STAGE=PATH"),
        (("--candidate", "detection=nowhere.onnx"), "no such candidate"),
        (("--threads", "0"), "1 or more"),
        (("--config", "nowhere.yaml"), "nowhere.yaml"),
        (("-m", "smokey and"), "Wrong expression"),
        (("--unknown-option",), "unrecognized arguments"),
    ],
)
def test_wrong_options_are_exit_4(project: Project, options: Workers, message: str) -> None:
    result = project.run(*options, engine=None)
    output = result.stdout.str() + result.stderr.str()
    assert result.ret == 4
    assert message in " ".join(output.split()).replace("expected: ", "expected: ")
    assert "Traceback" not in output
    assert not project.report_path.exists()


def test_broken_config_is_exit_4_and_names_key_and_choices(
    project: Project, workers: Workers
) -> None:
    project.settings["export"]["compare"]["mode"] = "quick"
    project.write_config()
    result = project.run("-m", "smoke", *workers)
    output = result.stdout.str() + result.stderr.str()
    assert result.ret == 4
    for part in ("config.yaml", "export.compare.mode", "quick", "smoke", "coverage", "full"):
        assert part in output
    assert "Traceback" not in output


def test_help_and_collection_write_nothing(project: Project, workers: Workers) -> None:
    help_text = project.run("--help", *workers).stdout.str()
    for option in ("--engine", "--provider", "--precision", "--stage", "--candidate", "--config"):
        assert option in help_text
    result = project.run("-m", "smoke", "--collect-only", "-q", *workers)
    assert result.ret == 0
    assert "test_equivalence[detection-numpy-auto-fp32-smoke-s001of003]" in result.stdout.str()
    assert not (project.path / "exp").exists()


@pytest.mark.parametrize(("options", "chunk"), [((), 1), (("--maxschedchunk", "3"), 3)])
def test_shards_go_to_workers_one_at_a_time(
    project: Project, options: tuple[str, ...], chunk: int
) -> None:
    """xdist would give all shards of the slowest cell to one worker; a user's own wish stands."""
    project.write_fault(
        f"""
def pytest_sessionstart(session):
    assert session.config.option.maxschedchunk == {chunk}
"""
    )
    assert project.run("-m", "smoke", "-n", "2", *options).ret == 0


def test_the_slowest_cells_shards_start_on_different_workers(project: Project) -> None:
    project.write_fault(
        """
def pytest_runtest_logreport(report):
    if report.when == "call" and hasattr(report, "node"):
        with open("ran.txt", "a") as file:
            print(report.node.gateway.id, report.nodeid.split("[")[-1], file=file)
"""
    )
    project.settings["export"]["compare"]["shard_size"] = 6
    project.write_config()
    assert project.run("-m", "smoke", "-n", "2").ret == 0
    ran = [line.split() for line in (project.path / "ran.txt").read_text().splitlines()]
    assert len(ran) == 4
    by_stage = {stage: {worker for worker, id in ran if stage in id} for stage in STAGES}
    assert list(by_stage.values()) == [{"gw0", "gw1"}] * len(STAGES)
