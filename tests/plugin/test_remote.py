"""Data behind URLs, spread over workers: the figures of a run are those of the same data here."""

from __future__ import annotations

from tests.plugin.project import Project
from tests.plugin.test_runs import without_times


def test_the_report_is_that_of_the_same_data_here(project: Project) -> None:
    project.write_fault(
        """
def fault(stage, batch, output):
    drift = np.float32(2.0) * batch.mean(axis=(1, 2, 3))
    output[..., 0] += drift.reshape(-1, *[1] * (output.ndim - 2))
    return output
"""
    )
    run = ("-m", "smoke", "--threads", "1")
    assert project.run(*run).ret == 1
    expected = without_times(project.report())
    assert expected["cells"][1]["metrics"]["mse_mean"] > 0

    url = f"file://{project.path}"
    project.settings["data"] = {
        "val": {
            "single": f"{url}/single",
            "combo": {"images": f"{url}/combo/images", "labels": f"{url}/combo/labels"},
        },
        "class_map": f"{url}/class_map.json",
    }
    project.write_config()
    collected = project.run("--collect-only", "-q")
    assert collected.ret == 0
    cache = project.path / "exp" / "cache" / "remote"
    names = {path.read_bytes()[:4] for path in cache.glob("*/*.copy")}
    assert names and b"\x89PNG" not in names

    result = project.run(*run, "-n", "2")
    assert result.ret == 1
    assert "Traceback" not in result.stdout.str() + result.stderr.str()
    report = without_times(project.report())
    for each in (report, expected):
        del each["provenance"]["config_sha256"]
    assert report == expected
