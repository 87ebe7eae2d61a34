"""scripts/export_onnx.sh, with both kinds of yq."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from tests.e2e.demo_project import ROOT, DemoProject

# Both print a scalar of a YAML file; mikefarah's plainly, the jq wrapper in JSON.
YQ = """#!{python}
import json, sys, yaml
value = yaml.safe_load({file})
for key in sys.argv[1].strip(".").split("."):
    value = (value or {{}}).get(key)
plain = value if isinstance(value, str) else json.dumps(value)
print({answer})
"""
ANSWERS = {"mikefarah": "plain", "jq-wrapper": "json.dumps(value)"}
OPENED = "open(sys.argv[2])"
# May open no file outside the home folder; "-" is standard input.
CONFINED = "sys.stdin if sys.argv[2] == '-' else sys.exit('no such file')"


def run_script(
    project: DemoProject, tools: Path, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(ROOT / "scripts" / "export_onnx.sh"), *arguments],
        env={
            **os.environ,
            "PATH": f"{tools}:{os.environ['PATH']}",
            "PYTHON": sys.executable,
            "CONFIG": str(project.config),
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
    )


def make_yq(folder: Path, answer: str, file: str = OPENED) -> Path:
    folder.mkdir()
    tool = folder / "yq"
    tool.write_text(YQ.format(python=sys.executable, answer=answer, file=file))
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    return folder


@pytest.fixture
def small(project: DemoProject) -> DemoProject:
    project.settings["export"]["compare"]["sample_count"] = 8
    project.write_config()
    return project


def test_exports_and_reports(small: DemoProject, tmp_path: Path) -> None:
    # A snap's yq opens no file outside its own folder.
    tools = make_yq(tmp_path / "bin", ANSWERS["mikefarah"], CONFINED)
    done = run_script(small, tools, OPSET="18")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    exported = [line.removeprefix("[OK] Exported: ") for line in lines if line.startswith("[OK]")]
    assert [Path(path).name.split("-")[0] for path in exported] == ["detection", "classification"]
    assert all(Path(path).is_file() for path in exported)
    assert lines[-1] == f"Report: {small.out_dir / 'export_report.json'}"
    assert onnx.load(exported[1]).opset_import[0].version == 18


def test_broken_config_is_a_message(small: DemoProject, tmp_path: Path) -> None:
    tools = make_yq(tmp_path / "bin", ANSWERS["mikefarah"])
    small.settings["paths"]["exp_dir"] = "${NO_SUCH_VARIABLE}/exp"
    small.write_config()
    done = run_script(small, tools)
    assert done.returncode == 1
    assert "NO_SUCH_VARIABLE" in done.stderr
    assert f"[FAIL] config: {small.config}" in done.stderr
    assert "Traceback" not in done.stderr


def test_breach_fails_with_the_log(small: DemoProject, tmp_path: Path) -> None:
    tools = make_yq(tmp_path / "bin", ANSWERS["mikefarah"])
    small.settings["export"]["compare"]["tolerances"] = {"strict": {"prob_err_max": 0.0}}
    small.write_config()
    done = run_script(small, tools)
    assert done.returncode == 1
    log = small.out_dir / "export_onnx.log"
    assert f"[FAIL] exit code 1, log: {log}" in done.stderr
    assert "prob_err_max" in log.read_text()
    # The detector has passed; of the classifier nothing leads to the export that breached.
    assert "[OK]" not in done.stdout
    assert [link.name for link in small.out_dir.glob("latest_*")] == ["latest_detection.onnx"]
    assert not (small.out_dir / "pillsnap_pipeline.py").exists()


def test_a_classifier_alone_is_exported(small: DemoProject, tmp_path: Path) -> None:
    tools = make_yq(tmp_path / "bin", ANSWERS["jq-wrapper"])
    (small.exp_dir / "checkpoints" / "detection_best.pt").unlink()
    small.settings["data"]["val"]["combo"] = None
    small.write_config()
    done = run_script(small, tools, OPSET="18")
    assert done.returncode == 0, done.stdout + done.stderr
    (exported,) = small.out_dir.glob("classification-*.onnx")
    assert onnx.load(exported).opset_import[0].version == 18
    assert f"[OK] Exported: {exported}" in done.stdout.splitlines()
    assert (small.out_dir / "pillsnap_pipeline.py").is_file()


def test_what_is_missing_is_named(small: DemoProject, tmp_path: Path) -> None:
    tools = make_yq(tmp_path / "bin", ANSWERS["mikefarah"])
    (small.exp_dir / "checkpoints" / "detection_best.pt").unlink()
    done = run_script(small, tools)
    assert done.returncode == 1
    assert done.stderr.startswith("[FAIL] no checkpoint: ")
    done = run_script(small, tools, CONFIG=str(tmp_path / "nowhere.yaml"))
    assert (done.returncode, done.stderr) == (
        1,
        f"[FAIL] no config file: {tmp_path / 'nowhere.yaml'}\n",
    )


def test_arguments_are_refused(small: DemoProject, tmp_path: Path) -> None:
    done = run_script(small, tmp_path, "--config=other.yaml", "-k")
    assert (done.returncode, done.stdout) == (2, "")
    assert "no argument is known: --config=other.yaml -k\nusage: [CONFIG=PATH]" in done.stderr


def test_weights_in_safetensors_are_a_checkpoint(small: DemoProject, tmp_path: Path) -> None:
    tools = make_yq(tmp_path / "bin", ANSWERS["mikefarah"])
    for stage in ("detection", "classification"):
        checkpoint = small.exp_dir / "checkpoints" / f"{stage}_best.pt"
        checkpoint.rename(checkpoint.with_suffix(".safetensors"))
    small.settings["export"]["out_dir"] = str(small.config)  # which ends it after this step
    small.write_config()
    done = run_script(small, tools)
    assert done.stderr == f"[FAIL] cannot make the folder {small.config}\n"


def test_without_yq_the_script_says_how_to_get_it(small: DemoProject, tmp_path: Path) -> None:
    tools = tmp_path / "few"
    tools.mkdir()
    for name in ("bash", "dirname", "basename", "cat"):
        (tools / name).symlink_to(str(shutil.which(name)))
    done = run_script(small, tools, PATH=str(tools))
    assert done.returncode == 1
    assert "yq is not installed: apt-get install yq" in done.stderr
