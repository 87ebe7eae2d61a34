"""Projects to measure on: the embedded demo, and one at the size of production.

    python benchmarks/projects.py --project full --n 128

makes one and its exports, and prints where its config file lies. Images, checkpoints and exports
take minutes to make, so they stay below --workdir and the next benchmark uses them again.

full: YOLO11m at 640 px and EfficientNetV2-S at 384 px with 5,000 classes. The weights are random,
with BatchNorm statistics from a few batches in training mode, as any training would leave them: in
a network as initialised activations grow from layer to layer until rounding rules the outputs. N
images a stage, drawn by the demo's renderer. Random weights carry no signal, so its cells end
`inconclusive` with exit code 1; times and drift are what it is for.

demo: the trained models of the demo on its 480 photos and 150 scenes, or on N of each.

Mode `coverage` verifies every image of a project, or N of a demo.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from pillsnap.config.load import load_config
from pillsnap.config.settings import Config
from pillsnap.core.cpus import usable_cpus
from pillsnap.demo.dataset import write_calibration
from pillsnap.demo.drugs import DRUGS
from pillsnap.demo.render import render_scene, render_single
from pillsnap.pipeline.preprocess import preprocess
from pillsnap.pipeline.transforms import ClassifyTransform, LetterboxTransform
from pillsnap.proof.healthy import settle_batchnorm

ROOT = Path(__file__).resolve().parents[1]
STAGES = ("detection", "classification")
NUM_CLASSES = 5000
SIZES = {"detection": 640, "classification": 384}
CALIBRATION_IMAGES = 16
HALF = (0.5, 0.5, 0.5)
NOT_A_GATE = (2, 3, 4)
"""Exit codes of a pytest that did not get to measure: nothing to report then."""


@dataclass(frozen=True)
class Project:
    """A project on disk.

    Attributes:
        name: full or demo.
        config_path: its config.yaml.
    """

    name: str
    config_path: Path

    @property
    def config(self) -> Config:
        return load_config(self.config_path)

    def forget_references(self) -> None:
        """Make the next run a cold one: the outputs of the reference are computed again."""
        shutil.rmtree(self.config.exp_dir / "cache", ignore_errors=True)

    def export(self) -> dict[str, Path]:
        """The .onnx file of each stage, made now unless there is one."""
        from pillsnap.export import export_onnx

        return {stage: export_onnx(self.config, stage).path for stage in STAGES}


@dataclass(frozen=True)
class GateProcess:
    """A whole `pytest` process that ran the gate.

    Attributes:
        seconds, cpu_s: wall and processor's time of the process and of its workers.
        report: its export_report.json.
    """

    seconds: float
    cpu_s: float
    exit_code: int
    report: dict[str, Any]

    @property
    def samples(self) -> dict[str, int]:
        return samples(self.report)


def samples(report: dict[str, Any]) -> dict[str, int]:
    """Samples that a report's cells verified, by stage."""
    return {cell["id"].partition("-")[0]: cell["samples"] for cell in report["cells"]}


def workdir_parser(description: str) -> argparse.ArgumentParser:
    """A parser with --workdir.

    Args:
        description: the script's docstring.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--workdir",
        type=Path,
        default=ROOT / "exp" / "bench",
        help="where projects are kept between benchmarks (default: exp/bench)",
    )
    return parser


def argument_parser(description: str, *, project: str, n: int) -> argparse.ArgumentParser:
    """A parser with --workdir, --project and --n.

    Args:
        description: the script's docstring.
        project, n: the defaults; n is of project full, demo takes all images.
    """
    parser = workdir_parser(description)
    parser.add_argument("--project", choices=("full", "demo"), default=project)
    parser.add_argument(
        "--n", type=int, help=f"images a stage (default: {n} of full, all of the demo)"
    )
    parser.set_defaults(full_n=n)
    return parser


def project_of(arguments: argparse.Namespace) -> Project:
    """The project that the options of `argument_parser` ask for, made unless it is there."""
    keep_offline()
    workdir: Path = arguments.workdir.resolve()
    if arguments.project == "demo":
        return make_demo(workdir, arguments.n)
    return make_full(workdir, arguments.full_n if arguments.n is None else arguments.n)


def keep_offline() -> None:
    """Nothing is downloaded or installed, here and in every process started from here."""
    from pillsnap.engines.torch.yolo import quiet_ultralytics

    quiet_ultralytics()


def make_demo(workdir: Path, n: int | None = None) -> Project:
    """The embedded demo below workdir/demo; mode coverage takes all of it, or n images a stage."""
    from pillsnap.demo.dataset import install

    exp_dir = workdir / "demo"
    install(exp_dir)
    settings = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    data = exp_dir / "demo_data"
    settings["demo"] = False  # it is in place
    settings["paths"]["exp_dir"] = str(exp_dir)
    settings["data"] = _data_section(data, edi_map=True)
    settings["export"]["compare"].update(_whole_coverage(n or 1_000_000))
    return Project("demo", _write_config(exp_dir, f"demo-{n or 'all'}", settings))


def make_full(workdir: Path, n: int) -> Project:
    """A project at the size of production below workdir/full, with n images a stage."""
    exp_dir = workdir / "full"
    data = exp_dir / f"data-{n}"
    _write_images(data, n)
    for stage, save in (("classification", _save_classifier), ("detection", _save_detector)):
        checkpoint = exp_dir / "checkpoints" / f"{stage}_best.pt"
        if not checkpoint.exists():
            checkpoint.parent.mkdir(exist_ok=True)
            partial = checkpoint.with_suffix(".partial")
            save(partial)
            partial.rename(checkpoint)
    calibration = exp_dir / "calibration"
    write_calibration(calibration)
    folders = {
        "single": str(calibration / "single"),
        "combo": str(calibration / "combo"),
    }
    settings = {
        "paths": {"exp_dir": str(exp_dir)},
        "data": {**_data_section(data), "calibration": folders},
        "detection": {"model": "yolo11m", "num_classes": 1},
        "classification": {
            "backbone": "efficientnetv2_s",
            "num_classes": NUM_CLASSES,
            "mean": list(HALF),
            "std": list(HALF),
            "interpolation": "bicubic",
            "crop_pct": 1.0,
        },
        "export": {
            "compare": _whole_coverage(n),
            "quantize": {"calibration_images": CALIBRATION_IMAGES},
        },
    }
    return Project("full", _write_config(exp_dir, f"full-{n}", settings))


def _data_section(data: Path, *, edi_map: bool = False) -> dict[str, Any]:
    combo = data / "val" / "combo"
    return {
        "val": {
            "single": str(data / "val" / "single"),
            "combo": {"images": str(combo / "images"), "labels": str(combo / "labels")},
        },
        "class_map": str(data / "class_map.json"),
        **({"edi_map": str(data / "edi_map.json")} if edi_map else {}),
    }


def _whole_coverage(n: int) -> dict[str, int]:
    """Mode coverage takes n images of a stage, or all when there are fewer, and none twice."""
    return {"per_class_k": n, "max_total": n, "hard_per_bin": 0}


def _write_config(exp_dir: Path, name: str, settings: dict[str, Any]) -> Path:
    path = exp_dir / f"{name}.yaml"
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return path


def _write_images(data: Path, n: int) -> None:
    """n photos, n scenes and a class map of NUM_CLASSES below data, unless it is there."""
    from pillsnap.demo.dataset import write_validation

    if data.exists():
        return
    drawing = data.with_name(f".{data.name}")
    shutil.rmtree(drawing, ignore_errors=True)
    write_validation(drawing, singles_per_drug=-(-n // len(DRUGS)), scenes=n)
    # Of every drug the same number, but for the last round.
    photos = sorted((drawing / "val" / "single").glob("*/*.png"), key=lambda path: path.name)
    for photo in photos[n:]:
        photo.unlink()
    class_map = json.loads((drawing / "class_map.json").read_text())
    codes = {f"K-9{index:05d}": index for index in range(len(class_map), NUM_CLASSES)}
    (drawing / "class_map.json").write_text(json.dumps({**class_map, **codes}))
    drawing.rename(data)


def _save_classifier(path: Path) -> None:
    import timm
    import torch

    torch.manual_seed(0)
    model = timm.create_model("efficientnetv2_s", pretrained=False, num_classes=NUM_CLASSES)
    transform = ClassifyTransform(SIZES["classification"], HALF, HALF, "bicubic", 1.0)
    settle_batchnorm(model, photo_batches(transform, 4))
    torch.save({"state_dict": model.state_dict()}, path)


def _save_detector(path: Path) -> None:
    import torch
    from ultralytics.nn.tasks import DetectionModel

    torch.manual_seed(0)
    model = DetectionModel("yolo11m.yaml", nc=1, verbose=False)
    side = SIZES["detection"]
    settle_batchnorm(model, scene_batches(LetterboxTransform(side, side), 2))
    torch.save({"model": model, "train_args": {}}, path)


def photo_batches(transform: ClassifyTransform, count: int) -> list[np.ndarray]:
    """Batches of one training photo of every drug, as a classifier's input."""
    return [
        np.stack(
            [
                preprocess(np.asarray(render_single(drug, seed, split="train")), transform)
                for drug in range(len(DRUGS))
            ]
        )
        for seed in range(count)
    ]


def scene_batches(transform: LetterboxTransform, count: int) -> list[np.ndarray]:
    """Batches of four training scenes, as a detector's input."""
    return [
        np.stack(
            [
                preprocess(np.asarray(render_scene(4 * batch + index, split="train")[0]), transform)
                for index in range(4)
            ]
        )
        for batch in range(count)
    ]


def gate_arguments(project: Project, mode: str, *options: str) -> list[str]:
    """Arguments of pytest for a run of the gate."""
    return ["-m", mode, f"--config={project.config_path}", "-q", "-p", "no:cacheprovider", *options]


def run_gate(project: Project, mode: str, *options: str) -> GateProcess:
    """Run the gate in a process of its own, and read its report.

    Raises:
        SystemExit: it did not get to measure; its output goes to stderr.
    """
    report = project.config.out_dir / "export_report.json"
    report.unlink(missing_ok=True)
    ran = timed_process(["-m", "pytest", *gate_arguments(project, mode, *options)])
    done = ran.done
    if done.returncode in NOT_A_GATE or not report.exists():
        print(done.stdout, done.stderr, file=sys.stderr)
        raise SystemExit(f"pytest ended with exit code {done.returncode}")
    return GateProcess(ran.seconds, ran.cpu_s, done.returncode, json.loads(report.read_text()))


@dataclass(frozen=True)
class TimedProcess:
    """A process that ended.

    Attributes:
        seconds, cpu_s: its wall time; processor's time of it and of the processes it waited for.
    """

    seconds: float
    cpu_s: float
    done: subprocess.CompletedProcess[str]


def timed_process(arguments: Sequence[str], *, cwd: Path = ROOT) -> TimedProcess:
    """Run this Python with arguments."""
    started, started_cpu = time.perf_counter(), _cpu_of_children()
    done = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )
    return TimedProcess(time.perf_counter() - started, _cpu_of_children() - started_cpu, done)


def _cpu_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def interleaved(rounds: int, *timed: Callable[[], float]) -> list[list[float]]:
    """Seconds of each of `timed` in every round. Every other round runs them backwards, so that a
    machine that slows down or speeds up favours none."""
    seconds: list[list[float]] = [[] for _ in timed]
    for number in range(rounds):
        order = range(len(timed)) if number % 2 == 0 else reversed(range(len(timed)))
        for index in order:
            seconds[index].append(timed[index]())
    return seconds


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def rounded(values: Iterable[float], digits: int = 2) -> list[float]:
    return [round(value, digits) for value in values]


def machine() -> dict[str, Any]:
    """What a ratio depends on beside the code."""
    return {"cores": usable_cpus(), "machine": platform.machine()}


def main() -> int:
    arguments = argument_parser(__doc__, project="full", n=128).parse_args()
    project = project_of(arguments)
    project.export()
    print(project.config_path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
