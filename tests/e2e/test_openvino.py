"""The gate on OpenVINO, on the demo's models."""

from __future__ import annotations

from tests.e2e.demo_project import DemoProject

GATE = ("pytest", "-m", "smoke", "--engine", "openvino", "--threads", "1", "-q")


def test_both_stages_are_as_exact_as_torch(project: DemoProject) -> None:
    project.settings["export"]["compare"].update(sample_count=4, batch_size=4)
    project.write_config()
    done = project.run(*GATE)
    assert done.returncode == 0, done.stdout + done.stderr
    report = project.report()
    for cell in report["cells"]:
        assert cell["verdict"] == "equivalent"
        assert cell["execution"]["precision"]["compute_nodes_by_type"].keys() == {"fp32"}
        assert cell["performance"]["peak_memory_mib"] > 10
        assert {1, 3, 4} <= set(cell["batching"]["batch_sizes"])
    assert "OpenVINO CPU: 90 of 90 compute nodes, in fp32" in done.stdout
    assert report["environment"]["packages"]["openvino"]
    # What ONNX Runtime serves is approved on its own provider alone, and found by no link.
    assert not list(project.out_dir.glob("latest_*.onnx"))
    assert {each["provider"] for each in report["gate"]["approvals"]} == {"OpenVINO CPU"}


def test_without_the_library_the_command_is_named(project: DemoProject) -> None:
    project.hide_module("openvino")
    done = project.run(*GATE, "--stage", "classification")
    assert done.returncode == 1
    said = " ".join(done.stdout.split())
    assert "openvino is not installed" in said
    assert "try: pip install" in said
