"""pillsnap_pipeline.py: written by a run, the same answers in an environment without torch."""

from __future__ import annotations

import ast
import json
import shutil
import signal
import subprocess
import sys
import sysconfig
import venv
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pillsnap.config.load import load_config
from pillsnap.core.errors import EngineError
from pillsnap.core.files import point_latest
from pillsnap.export import export_classification_onnx, export_detection_onnx
from pillsnap.infer.__main__ import main
from pillsnap.infer.standalone import FILE_NAME, assemble, publish_standalone
from tests.e2e.demo_project import DemoProject

# All that the file may need, with what these import themselves.
ALLOWED = ("numpy", "PIL", "cv2", "onnxruntime", "google", "flatbuffers", "packaging", "sympy")
LIBRARIES = ("numpy.libs", "pillow.libs", "opencv_python_headless.libs")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> DemoProject:
    project = DemoProject(tmp_path_factory.mktemp("standalone"))
    config = load_config(project.config, {})
    for export in (export_classification_onnx(config), export_detection_onnx(config)):
        stage = export.path.name.partition("-")[0]
        point_latest(config.out_dir / f"latest_{stage}.onnx", export.path)
    publish_standalone(config)
    return project


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a virtual environment with ALLOWED and nothing else."""
    folder = tmp_path_factory.mktemp("clean")
    venv.create(folder / "venv", with_pip=False)
    site = next((folder / "venv" / "lib").glob("python*")) / "site-packages"
    for name in (*ALLOWED, *LIBRARIES):
        found = Path(sysconfig.get_path("purelib")) / name
        if found.exists():
            (site / name).symlink_to(found)
    return folder / "venv" / "bin" / "python"


def run(python: Path, script: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(python), "-I", str(script), *options],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize("mode", ["single", "combo"])
def test_the_same_answers_without_torch_and_without_pillsnap(
    exported: DemoProject, python: Path, capsys: pytest.CaptureFixture[str], mode: str
) -> None:
    pattern = {"single": "single/*/000.png", "combo": "combo/images/000[0-7].png"}[mode]
    images = sorted(str(path) for path in exported.images.glob(pattern))
    options = ("--mode", mode, "--inputs", f"{exported.images}/{pattern}", "--batch", "1")
    assert (
        main(["--config", str(exported.config), "--provider", "cpu", "--threads", "1", *options])
        == 0
    )
    ours = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    script = exported.out_dir / FILE_NAME
    done = run(python, script, "--mode", mode, "--threads", "1", *images)
    assert done.returncode == 0, done.stderr
    theirs = [json.loads(line) for line in done.stdout.splitlines()]
    assert theirs == ours


def test_no_name_of_the_file_means_two_things(exported: DemoProject) -> None:
    """It is assembled of modules that knew nothing of one another's names."""
    meanings: dict[str, set[str]] = {}
    for node in ast.parse((exported.out_dir / FILE_NAME).read_text()).body:
        if isinstance(node, ast.ImportFrom | ast.Import):
            for alias in node.names:
                where = f"{getattr(node, 'module', '')}.{alias.name}"
                meanings.setdefault(alias.asname or alias.name, set()).add(where)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            meanings.setdefault(node.name, set()).add(ast.unparse(node))
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                meanings.setdefault(ast.unparse(target), set()).add(ast.unparse(node.value))
    assert len(meanings) > 50
    assert [name for name, found in meanings.items() if len(found) > 1] == []


def test_the_environment_is_clean(python: Path) -> None:
    code = "import importlib.util as u, sys; sys.exit(any(map(u.find_spec, sys.argv[1:])))"
    absent = ("torch", "timm", "ultralytics", "pillsnap", "scipy", "onnx", "yaml")
    done = subprocess.run([str(python), "-I", "-c", code, *absent], check=False, timeout=60)
    assert done.returncode == 0


def test_mistakes_are_messages(exported: DemoProject, python: Path, tmp_path: Path) -> None:
    script = exported.out_dir / FILE_NAME
    text = tmp_path / "text.jpg"
    text.write_text("words")
    good = next((exported.images / "single").rglob("000.png"))
    done = run(python, script, "--mode", "single", str(text), str(good), str(tmp_path / "none.jpg"))
    assert done.returncode == 1
    assert ["error" in json.loads(line) for line in done.stdout.splitlines()] == [True, False, True]
    copied = tmp_path / FILE_NAME
    copied.write_bytes(script.read_bytes())
    done = run(python, copied, str(good))
    assert (done.returncode, done.stdout) == (2, "")
    assert "cannot read the model" in done.stderr
    for model in exported.out_dir.glob("*-*.onnx"):
        (tmp_path / model.name).write_bytes(model.read_bytes() + b"\0")
    done = run(python, copied, str(good))
    assert done.returncode == 2
    assert "another model than the one that was verified" in done.stderr
    assert "Traceback" not in done.stderr


def test_where_latest_is_a_copy_the_export_itself_is_frozen_in(exported: DemoProject) -> None:
    script = exported.out_dir / FILE_NAME
    before = script.read_bytes()
    link = exported.out_dir / "latest_detection.onnx"
    target = link.resolve()
    link.unlink()
    shutil.copy(target, link)
    try:
        publish_standalone(load_config(exported.config, {}))
        assert script.read_bytes() == before
    finally:
        point_latest(link, target)


def test_a_pipe_that_closes_is_no_traceback(exported: DemoProject, python: Path) -> None:
    photo = str(next((exported.images / "single").rglob("000.png")))
    # More lines than a pipe holds.
    command = [str(python), "-I", str(exported.out_dir / FILE_NAME), *[photo] * 500]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        assert json.loads(process.stdout.readline())["code"]
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == -signal.SIGPIPE


def test_results_that_cannot_be_written_are_a_message(exported: DemoProject) -> None:
    photo = next((exported.images / "single").rglob("000.png"))
    command = [sys.executable, str(exported.out_dir / FILE_NAME), str(photo)]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: cannot write\n  where:    standard output\n")
    assert "Traceback" not in done.stderr


FROZEN: dict[str, Any] = {
    "onnxruntime": "1.12",
    "graph_optimization_level": "ORT_ENABLE_ALL",
    "disabled_optimizers": [],
    "stages": {},
    "nms": {},
    "crop_margin": 0.0,
    "mode": "single",
    "codes": {"0": "quote ' \" \\ and ''' and \"\"\" 약"},
    "edi": None,
}


def test_no_model_is_frozen_in_with_another_preprocessing(exported: DemoProject) -> None:
    """As of a stage that was last passed before the configuration changed."""
    config = load_config(exported.config, {})
    other = replace(config, classification=replace(config.classification, crop_pct=0.5))
    before = (exported.out_dir / FILE_NAME).read_bytes()
    with pytest.raises(EngineError, match="exported for another preprocess"):
        publish_standalone(other)
    assert (exported.out_dir / FILE_NAME).read_bytes() == before


def test_no_name_stands_for_two_things() -> None:
    tree = ast.parse(assemble(FROZEN))
    found: dict[str, set[str]] = {}
    for node in tree.body:
        name = getattr(node, "name", None)
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
        if name is not None:
            found.setdefault(name, set()).add(ast.dump(node))
    assert {name for name, sources in found.items() if len(sources) > 1} == set()


def run_with(name: str, version: str, folder: Path, how: str) -> tuple[int, str]:
    """Exit code and errors of the file under another version of Python or of a library."""
    (folder / FILE_NAME).write_text(assemble(FROZEN))
    attribute = "version" if name == "sys" else "__version__"
    code = f"import runpy, {name}; {name}.{attribute} = {version!r}; {how}"
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, timeout=120
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("name", "version", "words"),
    [
        ("sys", "3.8.10 (default, Nov 22 2023)", "Python 3.10 or newer, this is 3.8.10"),
        ("numpy", "1.19.5", "numpy 1.21 or newer, this is 1.19.5"),
        ("onnxruntime", "1.11.0", "ONNX Runtime 1.12 or newer, this is 1.11.0"),
    ],
)
def test_what_is_too_old_is_a_message(tmp_path: Path, name: str, version: str, words: str) -> None:
    message = f"pillsnap_pipeline.py needs {words}"
    started = f"runpy.run_path({FILE_NAME!r}, None, '__main__')"
    assert run_with(name, version, tmp_path, started) == (2, f"error: {message}\n")
    if name == "sys":
        code, errors = run_with(name, version, tmp_path, "import pillsnap_pipeline")
        assert (code, errors.splitlines()[-1]) == (1, f"ImportError: {message}")


def test_an_older_python_can_read_the_file_as_far_as_the_message() -> None:
    source = assemble(FROZEN)
    ast.parse(source, feature_version=(3, 7))
    assert "Needed, or newer: Python 3.10, numpy 1.21" in (
        ast.get_docstring(ast.parse(source)) or ""
    )


def test_maps_survive_whatever_they_hold() -> None:
    (value,) = (
        node.value
        for node in ast.parse(assemble(FROZEN)).body
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "FROZEN"
    )
    assert isinstance(value, ast.Call)
    assert json.loads(ast.literal_eval(value.args[0])) == FROZEN


def test_a_run_of_the_gate_writes_it(passed_run: DemoProject) -> None:
    assert (passed_run.out_dir / FILE_NAME).is_file()


@pytest.fixture
def passed_run(project: DemoProject) -> DemoProject:
    options = ("-m", "smoke", "--stage", "classification", "--threads", "1")
    done = project.run("pytest", *options, f"--config={project.config}")
    assert done.returncode == 0, done.stdout
    return project
