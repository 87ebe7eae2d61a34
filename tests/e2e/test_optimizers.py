"""`runtime.disabled_optimizers` holds from the gate to what is shipped."""

from __future__ import annotations

from pillsnap.config.load import load_config
from pillsnap.config.runtime import Runtime
from pillsnap.infer.standalone import FILE_NAME
from pillsnap.report.index import ReportIndex
from pillsnap.serve.approval import look_up
from tests.e2e.demo_project import DemoProject

OFF = ["Pad_Fusion", "PadFusion"]


def test_what_is_off_is_reported_approved_and_shipped(project: DemoProject) -> None:
    project.settings["runtime"] = {"disabled_optimizers": OFF}
    project.write_config()
    done = project.run("pytest", "-m", "smoke", "-q", "--stage", "classification")
    assert done.returncode == 0, done.stdout
    report = project.report()
    assert report["environment"]["runtime"] == {
        "graph_optimization_level": "ORT_ENABLE_ALL",
        "disabled_optimizers": OFF,
    }
    (approval,) = report["gate"]["approvals"]
    assert approval["approved"]
    shipped = (project.out_dir / FILE_NAME).read_text()
    assert '\\"disabled_optimizers\\": [\\"Pad_Fusion\\", \\"PadFusion\\"]' in shipped
    # A service that runs it otherwise runs what nobody has verified.
    config = load_config(project.config, {})
    reports = ReportIndex(project.out_dir / "reports")
    about = reports, "classification", approval["sha256"], approval["provider"]
    assert look_up(*about, config.runtime).approved
    assert not look_up(*about, Runtime()).approved
