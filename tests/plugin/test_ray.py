"""`--ray` on a real cluster of two nodes, each report held against one machine's."""

from __future__ import annotations

import json
import secrets
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.demo_project import DemoProject
from tests.plugin.cut_off import RUN, start, wait_for_outcomes
from tests.plugin.project import Project
from tests.plugin.ray_nodes import Nodes, two_nodes
from tests.plugin.test_runs import without_times

pytest.importorskip("ray", reason="Ray is not installed")
pytestmark = pytest.mark.ray

# Drift makes a report of many digits.
DRIFT = """
import os, time
from pathlib import Path
def drift(output, batch):
    shift = np.float32(2.0) * batch.mean(axis=(1, 2, 3))
    output[..., 0] += shift.reshape(-1, *[1] * (output.ndim - 2))
    return output
"""
HEALTHY = """
def fault(stage, batch, output):
    return drift(output, batch)
"""
SLOW = """
def fault(stage, batch, output):
    time.sleep(0.4)
    return drift(output, batch)
"""
# One photo ends the process that has it, by what there is to end it, once or each time.
DEADLY = """
from tests.plugin.numpy_engine import COLOURS
flag = Path({flag!r})
def fault(stage, batch, output):
    deadly = np.abs(batch.mean(axis=(2, 3)) - COLOURS[2] * 0.8).max(axis=1) < 0.004
    if stage == "classification" and deadly.any() and ({always} or not flag.exists()):
        flag.touch()
        {end}
    return drift(output, batch)
"""
KILLED, OUT_OF_MEMORY = "os.kill(os.getpid(), 9)", "raise MemoryError"
SHARDS = 12 // 2 + 24 // 2


@pytest.fixture(scope="module")
def cluster() -> Iterator[Nodes]:
    with two_nodes() as nodes:
        yield nodes


@pytest.fixture
def nodes(cluster: Nodes) -> Nodes:
    """The cluster with both nodes."""
    cluster.restore()
    return cluster


@pytest.fixture
def ray(nodes: Nodes) -> tuple[str, ...]:
    return ("--ray", nodes.address)


@pytest.fixture
def small(project: Project) -> Project:
    """A project of shards of one batch each."""
    project.settings["export"]["compare"].update(shard_size=2)
    project.write_config()
    project.write_fault(DRIFT + HEALTHY)
    return project


def of_one_machine(report: dict[str, Any]) -> dict[str, Any]:
    """The report less times and hosts."""
    report = without_times(report)
    del report["cluster"]
    return report


def placeless(project: Project) -> str:
    """The project's report less times, hosts and where the project lies."""
    text = json.dumps(of_one_machine(project.report()))
    return text.replace(str(project.path), "/project")


@pytest.fixture(scope="module")
def of_serial() -> dict[str, str]:
    """What `serial` keeps."""
    return {}


@pytest.fixture
def serial(small: Project, of_serial: dict[str, str]) -> str:
    """The report of the small project without a cluster."""
    if not of_serial:
        assert small.run(*RUN).ret == 1
        of_serial["report"] = placeless(small)
        shutil.rmtree(small.path / "exp")
    return of_serial["report"]


def test_the_report_is_that_of_one_machine_and_names_nodes(
    small: Project, ray: tuple[str, ...]
) -> None:
    compare = small.settings["export"]["compare"]
    compare.update(per_class_k=6, hard_per_bin=3, hardness_bins=[0.25, 0.7, 0.9, 1.0])
    small.write_config()
    run = ("-m", "coverage", "--threads", "1")
    assert small.run(*run).ret == 1
    expected = of_one_machine(small.report())
    result = small.run(*run, *ray, "--junitxml", "junit.xml")
    assert result.ret == 1  # a breach is a breach
    report = small.report()
    assert of_one_machine(report) == expected
    assert 'name="test_equivalence[classification-numpy' in Path("junit.xml").read_text()
    nodes = report["cluster"]["nodes"]
    assert [node["lost"] for node in nodes] == [False, False]
    assert [node["differences"] for node in nodes] == [[], []]
    assert sum(node["shards"] for node in nodes) == 7 // 2 + 1 + 24 // 2 + 12 // 4 + 2
    assert "cluster: 2 nodes; shards: " in " ".join(result.outlines)
    # One of them may have done all before the other's workers stood.
    assert report["cells"][0]["performance"]["kind"] in {node["cpu"] for node in nodes}


def test_a_node_that_dies_in_the_middle_costs_a_repetition(
    small: Project, nodes: Nodes, ray: tuple[str, ...], serial: str
) -> None:
    small.write_fault(DRIFT + SLOW)
    process = start(small, *ray)
    wait_for_outcomes(small, 4)
    nodes.lose()
    assert process.wait(60) == 1
    report = small.report()
    assert placeless(small) == serial
    (loss,) = report["cluster"]["losses"]
    assert loss["node"] == report["cluster"]["nodes"][1]["name"]
    # Whether the cluster has seen by then that it is.
    assert loss["reason"] in ("its node is gone", "its node does not answer")


@pytest.mark.parametrize(
    ("end", "always"),
    [(KILLED, False), (OUT_OF_MEMORY, False), (KILLED, True)],
    ids=["killed", "memory", "always"],
)
def test_a_worker_that_dies_is_replaced(
    small: Project, ray: tuple[str, ...], serial: str, tmp_path: Path, end: str, always: bool
) -> None:
    flag = str(tmp_path / "died")
    small.write_fault(DRIFT + DEADLY.format(flag=flag, always=always, end=end))
    result = small.run(*RUN, *ray)
    assert result.ret == 1
    report = small.report()
    assert len(report["cluster"]["losses"]) == (4 if always else 1)
    if end == OUT_OF_MEMORY:
        assert report["cluster"]["losses"][0]["reason"] == "out of memory"
    if not always:
        assert placeless(small) == serial
        return
    cell = report["cells"][1]
    assert cell["verdict"] == "inconclusive"
    assert "every worker that ran this shard was lost" in cell["reason"]
    assert report["gate"]["complete"]
    assert result.parseoutcomes()["failed"] == 2  # the shard, and the other cell's breach


def test_selection_and_maxfail_are_those_of_pytest(small: Project, ray: tuple[str, ...]) -> None:
    result = small.run(*RUN, *ray, "-k", "s003of012 or s004of012")
    assert result.parseoutcomes()["passed"] == 2
    nodes = small.report()["cluster"]["nodes"]
    assert sum(node["shards"] for node in nodes) == 2
    (small.path / "single" / "K-0" / "0.png").write_bytes(b"no image")
    result = small.run(*RUN, *ray, "--stage", "classification", "--maxfail", "1")
    assert result.ret == 1
    assert result.parseoutcomes()["failed"] >= 1
    report = small.report()
    assert not report["gate"]["complete"]
    assert len(report["gate"]["missing"]) == SHARDS - 6 - 1


def test_a_run_that_was_cut_off_is_gone_on_with(
    small: Project, ray: tuple[str, ...], serial: str
) -> None:
    small.write_fault(DRIFT + SLOW)
    process = start(small, *ray)
    wait_for_outcomes(small, 5)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 2
    report = small.report()
    assert report["cluster"]["losses"] == []
    assert len(report["gate"]["missing"]) > 0
    small.write_fault(DRIFT + HEALTHY)
    assert small.run(*RUN, *ray, "--resume").ret == 1
    report = small.report()
    assert placeless(small) == serial
    assert sum(node["shards"] for node in report["cluster"]["nodes"]) <= SHARDS - 5


def test_ctrl_c_leaves_no_process_of_a_local_cluster(
    small: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    small.write_fault(DRIFT + SLOW)
    mark = secrets.token_hex(8)
    monkeypatch.setenv("RUN_OF_THIS_TEST", mark)
    process = start(small, "--ray", "local")
    wait_for_outcomes(small, 1)
    assert len(processes_with(mark)) > 2
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 2
    deadline = time.monotonic() + 20
    while processes_with(mark) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert processes_with(mark) == []


def processes_with(mark: str) -> list[str]:
    """Command lines of the processes whose environment has these bytes, zombies not among them."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended
            if mark.encode() in (folder / "environ").read_bytes():
                found.append((folder / "cmdline").read_bytes().decode(errors="replace"))
    return found


def test_a_cell_that_no_node_can_serve_fails_at_once(small: Project, ray: tuple[str, ...]) -> None:
    options = ("--engine", "onnx", "--provider", "cuda", "--stage", "classification")
    started = time.monotonic()
    result = small.run("-m", "smoke", *options, *ray, engine=None)
    assert result.ret == 1
    assert time.monotonic() - started < 60
    text = " ".join(" ".join(result.outlines).split())
    assert "no node of the Ray cluster can serve this cell" in text
    assert "1 CPU, no GPU" in text and "a node with 1 CPU and 1 GPU" in text
    result = small.run("-m", "smoke", "--threads", "2", *ray)
    assert result.ret == 1
    assert "or lower --threads" in " ".join(" ".join(result.outlines).split())


def test_a_cluster_that_is_not_there_is_a_message(small: Project) -> None:
    result = small.run(*RUN, "--ray", "127.0.0.1:1")
    assert result.ret == 4
    text = "\n".join([*result.outlines, *result.errlines])
    assert "no Ray cluster can be used there" in text
    assert "Traceback" not in text


def test_the_demo_on_this_machine(
    tmp_path: Path, ray: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real models, exported once by the driver."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    project = DemoProject(tmp_path)
    project.settings["export"]["compare"].update(
        per_class_k=1, max_total=24, batch_size=8, shard_size=8
    )
    project.write_config()
    run = ("pytest", "-m", "coverage", "--threads", "1", "-q")
    done = project.run(*run, *ray)
    assert done.returncode == 0, done.stdout + done.stderr
    report = project.report()
    assert len(list(project.out_dir.glob("detection-*.onnx"))) == 1
    done = project.run(*run)
    assert done.returncode == 0, done.stdout + done.stderr
    assert of_one_machine(report) == of_one_machine(project.report())
    proofs = [
        cell["execution"]["placement"]["compute_nodes_on_provider"]
        for node in report["cluster"]["nodes"]
        for cell in node["cells"].values()
    ]
    assert len(proofs) >= 2 and all(proofs)
