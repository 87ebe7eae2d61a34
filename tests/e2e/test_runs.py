"""The gate on the demo's models through real pytest runs."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from tests.e2e.demo_project import DemoProject

CLASSIFIER = ("pytest", "-m", "smoke", "--stage", "classification", "-q")


def without_times(report: dict[str, Any]) -> dict[str, Any]:
    for cell in report["cells"]:
        del cell["seconds"], cell["performance"]
    for key in ("run", "started_at_utc"):
        del report["provenance"][key]
    del report["environment"]["load"]
    return report


def test_equal_reports_on_one_export_without_ultralytics(project: DemoProject) -> None:
    # A classifier's team does without ultralytics: importing it would fail here.
    project.hide_module("ultralytics")
    project.settings["export"]["compare"].update(batch_size=8, shard_size=8)
    project.write_config()
    reports = []
    for spread in ((), ("-n", "0"), ("-n", "2")):
        done = project.run(*CLASSIFIER, "--threads", "1", *spread)
        assert done.returncode == 0, done.stdout + done.stderr
        reports.append(without_times(project.report()))
    assert reports[0] == reports[1] == reports[2]
    exports = [path.name for path in project.out_dir.glob("classification-*.onnx")]
    assert len(exports) == 1
    link = project.out_dir / "latest_classification.onnx"
    assert link.readlink().name == exports[0]
    assert len(list((project.out_dir / "reports").glob("*-smoke-*.json"))) == 3
    report = reports[0]
    assert report["stages"]["detection"] is None
    assert report["onnx_path"] == str(project.out_dir / exports[0])
    assert (report["opset"], report["dynamic_axes"]) == (17, True)
    assert report["compare"]["sampled_images"] == 32
    assert report["providers"][-1] == "CPUExecutionProvider"


def test_both_stages_export_once_for_two_workers(project: DemoProject) -> None:
    project.settings["export"]["compare"].update(sample_count=8, batch_size=4, shard_size=4)
    project.write_config()
    done = project.run("pytest", "-m", "smoke", "--fresh-export", "-n", "2", "-q")
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list(project.out_dir.glob("detection-*.onnx"))) == 1
    assert len(list(project.out_dir.glob("classification-*.onnx"))) == 1
    report = project.report()
    assert report["gate"]["verdict"] == "equivalent"
    assert report["stages"]["detection"]["compare"]["deltas"]["map_0_5"] == 0


def test_gate_skips_without_onnxruntime(project: DemoProject) -> None:
    project.hide_module("onnxruntime")
    done = project.run("pytest", "-m", "smoke", "-q")
    assert done.returncode == 1  # asked for, and nothing was measured
    assert "2 skipped" in done.stdout
    assert "onnxruntime is not installed" in " ".join(done.stdout.split())
    assert project.run("pytest", "-q").returncode == 0  # not asked for


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (
            ("--engine", "tensorrt"),
            ("TensorrtExecutionProvider", "libnvinfer.so.10", "TensorRT 10.x", "tensorrt-cu13"),
        ),
        (("--provider", "cuda"), ("CUDAExecutionProvider", "libcuda.so.1", "pillsnap[gpu]")),
    ],
)
def test_provider_that_is_not_there_is_refused(
    project: DemoProject, options: tuple[str, str], parts: tuple[str, ...]
) -> None:
    from pillsnap.engines.onnxruntime.libraries import has_nvidia_driver

    if has_nvidia_driver():
        pytest.skip("this machine may have the provider")
    done = project.run(*CLASSIFIER, *options)
    assert done.returncode == 1
    output = " ".join(done.stdout.split())
    assert "was asked for and does not run" in output
    for part in (*parts, "CUDA 13", "pip install"):
        assert part in output
    assert "Traceback" not in done.stdout + done.stderr
    (cell,) = project.report()["cells"]
    assert cell["verdict"] == "inconclusive"


ELSEWHERE = """
import pillsnap.engines.onnxruntime.sessions as sessions
read = sessions.read_placement
sessions.read_placement = lambda session, _, dead: read(session, "CUDAExecutionProvider", dead)
"""
NOT_TAKEN = """
import pillsnap.engines.onnxruntime.sessions as sessions
sessions.provider_options = lambda *_: {"CPUExecutionProvider": {"use_arena": "0"}}
"""


@pytest.mark.parametrize(
    ("source", "parts"),
    [
        # A real session, whose compute is looked for on another provider than its own.
        (ELSEWHERE, ("does not compute all", "0 of 16 compute nodes", "(CPUExecutionProvider)")),
        # An option that the CPU takes without a word.
        (NOT_TAKEN, ("use_arena", "nothing reads back", "expected: 0")),
    ],
    ids=["elsewhere", "not-taken"],
)
def test_a_session_that_is_not_as_asked_fails_its_cell(
    project: DemoProject, source: str, parts: tuple[str, ...]
) -> None:
    project.patch(source)
    done = project.run(*CLASSIFIER, "--provider", "cpu")
    assert done.returncode == 1
    output = " ".join(done.stdout.split())
    for part in ("CPUExecutionProvider", *parts):
        assert part in output
    assert "Traceback" not in done.stdout + done.stderr
    (cell,) = project.report()["cells"]
    assert cell["verdict"] == "inconclusive"


def test_engines_need_a_folder_and_options_are_known(project: DemoProject) -> None:
    blocked = project.path / "file" / "cache"
    (project.path / "file").write_text("in the way")
    project.settings["runtime"]["tensorrt"]["trt_engine_cache_path"] = str(blocked)
    project.write_config()
    done = project.run(*CLASSIFIER, "--engine", "tensorrt")
    assert done.returncode == 1
    output = " ".join(done.stdout.split())
    assert "TensorRT's engines cannot be kept in this folder" in output
    assert str(blocked) in "".join(done.stdout.split())
    # An option that no provider has is an error of the configuration.
    project.settings["runtime"]["cuda"]["cudnn_conv_use_max_workspaces"] = 1
    project.write_config()
    done = project.run(*CLASSIFIER)
    assert done.returncode == 4
    assert "unknown key 'cudnn_conv_use_max_workspaces'" in done.stderr
    assert "did you mean 'cudnn_conv_use_max_workspace'" in done.stderr


def test_what_ran_and_how_fast_stands_in_report_and_table(project: DemoProject) -> None:
    done = project.run(*CLASSIFIER, "--perf-budget", "latency_p95_ms=100000")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "CPU: 16 of 16 compute nodes" in done.stdout
    (cell,) = project.report()["cells"]
    assert cell["execution"]["placement"]["compute_nodes_on_provider"] == 16
    found = cell["performance"]
    assert (found["contended"], found["torch_remembered"]) == (False, False)
    absent = ("kind", "single_problem", "speedup_over_fp32", "fp32_compared")
    assert [found[name] for name in absent] == [None] * 4
    for name, value in found.items():
        if name not in ("contended", "torch_remembered", "peak_gpu_memory_mib", *absent):
            assert value > 0, name
    size = (project.out_dir / "latest_classification.onnx").stat().st_size
    assert found["model_size_mib"] == pytest.approx(size / 2**20, abs=1e-3)
    # The reference is remembered, and how fast it was.
    done = project.run(*CLASSIFIER, "--perf-budget", "latency_p50_ms=0.0001")
    assert done.returncode == 1
    (cell,) = project.report()["cells"]
    assert cell["performance"]["torch_images_per_s"] == pytest.approx(found["torch_images_per_s"])
    assert cell["performance"]["torch_remembered"] is True
    assert "x torch of an earlier run" in " ".join(done.stdout.split())
    assert cell["verdict"] == "breach"
    (breach,) = cell["breaches"]
    assert (breach["figure"], breach["where"]) == ("latency_p50_ms", "budget")
    assert cell["likely_causes"][0].startswith("speed or memory")


def test_damaged_candidate_and_checkpoint_are_named(project: DemoProject) -> None:
    broken = project.path / "broken.onnx"
    broken.write_bytes(b"\x08\x07 not a model")
    done = project.run(*CLASSIFIER, f"--candidate=classification={broken}")
    assert done.returncode == 1
    assert str(broken) in done.stdout
    checkpoint = project.exp_dir / "checkpoints" / "classification_best.pt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:5000])
    done = project.run(*CLASSIFIER)
    assert done.returncode == 1
    assert "truncated" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    (cell,) = project.report()["cells"]
    assert cell["verdict"] == "inconclusive"


def test_folder_that_cannot_hold_the_export_is_exit_3(project: DemoProject) -> None:
    project.out_dir.write_text("a file where the folder should be")
    done = project.run(*CLASSIFIER)
    assert done.returncode == 3
    assert str(project.out_dir) in " ".join(done.stdout.split()).replace(" ", "") or (
        "export" in done.stdout
    )
    assert "Traceback" not in done.stdout + done.stderr


def test_demo_is_in_place_before_the_workers_look_for_it(project: DemoProject) -> None:
    shutil.rmtree(project.exp_dir)
    project.settings["demo"] = True
    data = project.exp_dir / "demo_data"
    project.settings["data"] = {
        "val": {"single": str(data / "val/single")},
        "class_map": str(data / "class_map.json"),
    }
    project.write_config()
    done = project.run(*CLASSIFIER, "-n", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(path.name for path in project.exp_dir.iterdir()) == [
        "cache",
        "checkpoints",
        "demo_calibration",
        "demo_data",
        "export",
        "runs",
    ]
    assert len(list((data / "val" / "single").rglob("*.png"))) == 480
