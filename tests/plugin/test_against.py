"""--against: what got worse since an earlier report, which may fail a run that passes."""

from __future__ import annotations

from tests.plugin.project import Project

SCALED = "def fault(stage, batch, output):\n    return output * np.float32(1.002)\n"


def test_what_got_worse_since_an_earlier_report_fails_a_run_that_passes(project: Project) -> None:
    project.settings["export"]["compare"]["tolerances"] = {"profile": "practical"}
    project.write_config()
    reports = project.path / "exp" / "export" / "reports"
    earlier = project.path / "earlier.json"
    # That a folder has none is shown, and fails nothing.
    options = ("-m", "smoke", f"--against={reports}", "--fail-on-regression")
    reports.mkdir(parents=True)
    assert project.run(*options).ret == 0
    first = project.report()
    assert first["against"]["problem"].startswith(f"no report in {reports} has a cell")
    earlier.write_bytes(project.report_path.read_bytes())
    # The same again, spread over workers: the newest report that fits is the first one.
    result = project.run("-m", "smoke", "-n", "2", f"--against={reports}", "--fail-on-regression")
    report = project.report()
    assert result.ret == report["gate"]["exit_code"] == 0
    assert report["against"]["run"] == first["provenance"]["run"]
    outcomes = {change["outcome"] for change in report["against"]["changes"]}
    assert "same" in outcomes and "worse" not in outcomes
    # Inside the tolerances, and worse.
    project.write_fault(SCALED)
    result = project.run("-m", "smoke", f"--against={earlier}", "--fail-on-regression")
    report = project.report()
    assert [cell["verdict"] for cell in report["cells"]] == ["within_tolerance"] * 2
    assert result.ret == report["gate"]["exit_code"] == 1
    worse = {c["figure"] for c in report["against"]["changes"] if c["outcome"] == "worse"}
    assert {"raw_box_err_px", "raw_score_err", "verdict"} <= worse
    assert "WORSE detection-numpy-auto-fp32-smoke: raw_box_err_px" in result.stdout.str()
    page = project.report_path.with_suffix(".html").read_text(encoding="utf-8")
    assert "Against an earlier report" in page
