"""--perf-budget: a gate on speed, where nothing else disturbed it."""

from __future__ import annotations

import pytest

from tests.plugin.project import Project


def use_small_batches(project: Project) -> None:
    """Several batches a cell: the first one warms up."""
    project.settings["export"]["compare"].update(batch_size=4)
    project.write_config()


@pytest.mark.parametrize(("limit", "code"), [("1e6", 0), ("1e-6", 1)])
def test_a_budget_is_a_tolerance_of_every_cell(project: Project, limit: str, code: int) -> None:
    use_small_batches(project)
    project.write_fault("")
    result = project.run("-m", "smoke", "--perf-budget", f"batch_latency_p95_ms={limit}")
    assert result.ret == code
    for cell in project.report()["cells"]:
        assert cell["performance"]["batch_size"] == 4
        assert cell["verdict"] == ("breach" if code else "equivalent")
        names = [breach["figure"] for breach in cell["breaches"]]
        assert names == (["batch_latency_p95_ms"] if code else [])
    assert ("> 1e-06 (budget)" in result.stdout.str()) is bool(code)
    assert ("likely: speed or memory on this machine" in result.stdout.str()) is bool(code)
    # Neither a profile nor a sample is to blame.
    assert "would have held" not in result.stdout.str()
    assert "worst samples" not in result.stdout.str()


def test_what_was_not_measured_is_not_inside_its_budget(project: Project) -> None:
    project.write_fault("")  # numpy's engine is not run alone
    result = project.run("-m", "smoke", "--perf-budget", "latency_p95_ms=1e6")
    assert result.ret == 1
    assert "latency_p95_ms inf > 1e+06 (budget)" in result.stdout.str()


def test_nothing_is_gated_on_what_workers_contended_for(project: Project) -> None:
    use_small_batches(project)
    project.write_fault("")
    result = project.run("-m", "smoke", "-n", "2", "--perf-budget", "batch_latency_p95_ms=1e-6")
    assert result.ret == 0
    output = " ".join(result.stdout.str().split())
    assert "--perf-budget was not judged: several workers shared the machine" in output
    assert all(cell["performance"]["contended"] for cell in project.report()["cells"])


@pytest.mark.parametrize("text", ["latency_p95_ms", "speed=3", "latency_p95_ms=-1", "=", "a=b=c"])
def test_a_budget_that_is_none_is_exit_4(project: Project, text: str) -> None:
    result = project.run("-m", "smoke", "--perf-budget", text)
    assert result.ret == 4
    assert "--perf-budget takes KEY=VALUE" in result.stderr.str()
    assert "batch_latency_p50_ms" in result.stderr.str()
