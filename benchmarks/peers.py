"""The gate against what is run today to see that an export behaves as its checkpoint.

    python benchmarks/peers.py [--project full] [--n N] [--rounds 1]
    python benchmarks/peers.py --project demo

Theirs, on the same images with the same batch size, image size and threads (see peer_passes.py):
`yolo val` of the .pt, `yolo val` of the .onnx that ultralytics wrote, and a script that validates
the classifier with torch and then with ONNX Runtime as timm's validate.py and onnx_validate.py do.
It ends with two accuracies a stage to compare by eye. Ours: `pytest -m coverage` over all of these
images, first without a reference cache, then with the one it left and the same .onnx files as
--candidate, as for any further engine or precision. On both sides whole processes (one of ours,
three of theirs), imports included, exports in place.

    peers_first            all of theirs / ours without a cache
    peers_further          all of theirs / ours with a cache: they know no cache and repeat both
                           passes to compare
    peers_further_least    only their passes over the .onnx files / ours with a cache: the least
                           that tells anything of one more engine, taking the figures of the .pt
                           from notes. Of the classifier's script its second pass and its imports.

Ratios also as `..._cpu`, of the processor's time in place of the wall's.

--project demo has few, small images and tiny models; what is left there is start-up.
"""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from projects import (
    Project,
    argument_parser,
    machine,
    median,
    project_of,
    rounded,
    run_gate,
    samples,
    timed_process,
)

from pillsnap.core.cpus import usable_cpus

PARTS = ("yolo_val_pt", "yolo_val_onnx", "timm_both", "ours_first", "ours_further")
Took = tuple[float, float]
"""Wall and processor's time of a process, in seconds."""

PASSES = Path(__file__).with_name("peer_passes.py")


def main() -> int:
    parser = argument_parser(__doc__, project="full", n=128)
    parser.add_argument("--rounds", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.project == "demo" and arguments.n is not None:
        parser.error("theirs validate whole folders: leave out --n for the demo")
    project = project_of(arguments)
    threads = usable_cpus()
    exports = project.export()
    theirs = Theirs.prepare(project, exports["classification"], threads)
    candidates = [f"--candidate={stage}={path}" for stage, path in exports.items()]

    took: dict[str, list[Took]] = {name: [] for name in PARTS}

    def ours() -> None:
        project.forget_references()
        for name, options in (("ours_first", []), ("ours_further", candidates)):
            ran = run_gate(project, "coverage", *options)
            took[name].append((ran.seconds, ran.cpu_s))

    def their() -> None:
        took["yolo_val_pt"].append(theirs.detector("detector.pt"))
        took["yolo_val_onnx"].append(theirs.detector("detector.onnx"))
        took["timm_both"].append(theirs.classifier())

    for number in range(arguments.rounds):
        for side in (their, ours) if number % 2 == 0 else (ours, their):
            side()
    report = json.loads((project.config.out_dir / "export_report.json").read_text())
    result = {
        "benchmark": "peers",
        "project": project.name,
        "n": samples(report),
        "batch_size": project.config.compare.batch_size,
        "threads": threads,
        "rounds": arguments.rounds,
        **machine(),
        **ratios(took, theirs.notes["classifier"], clock=0),
        **{f"{name}_cpu": value for name, value in ratios(took, None, clock=1).items()},
        **{f"{name}_s": [rounded(times) for times in took[name]] for name in PARTS},
        "their_notes": theirs.notes,
    }
    print(json.dumps(result))
    return 0


def ratios(
    took: dict[str, list[Took]], classifier: dict[str, float] | None, *, clock: int
) -> dict[str, float]:
    """The ratios of the docstring; peers_further_least only with the notes of a classifier pass.

    Args:
        clock: 0 for wall time, 1 for the processor's.
    """
    part = {name: median([times[clock] for times in took[name]]) for name in PARTS}
    theirs = part["yolo_val_pt"] + part["yolo_val_onnx"] + part["timm_both"]
    result = {
        "peers_first": round(theirs / part["ours_first"], 3),
        "peers_further": round(theirs / part["ours_further"], 3),
    }
    if classifier is not None:
        least = part["yolo_val_onnx"] + part["timm_both"] - classifier["torch_s"]
        result["peers_further_least"] = round(least / part["ours_further"], 3)
    return result


@dataclass
class Theirs:
    """Their passes, over files of their own.

    Attributes:
        folder: holds detector.pt, the .onnx that ultralytics wrote beside it, and data.yaml.
        notes: what the last pass of each kind said of itself.
    """

    project: Project
    folder: Path
    classifier_onnx: Path
    threads: int
    notes: dict[str, Any]

    @classmethod
    def prepare(cls, project: Project, classifier_onnx: Path, threads: int) -> Theirs:
        config = project.config
        folder = config.exp_dir / "peers"
        folder.mkdir(exist_ok=True)
        if not (folder / "detector.onnx").exists():
            from ultralytics import YOLO

            # It writes the .onnx beside the .pt.
            shutil.copy(
                config.exp_dir / "checkpoints" / "detection_best.pt", folder / "detector.pt"
            )
            YOLO(str(folder / "detector.pt")).export(
                format="onnx",
                dynamic=True,
                simplify=False,
                opset=config.export.opset,
                imgsz=config.input_shape("detection")[2],
                device="cpu",
            )
        combo = config.data.val.combo
        assert combo is not None
        data = {
            "path": str(combo.images.parent),
            "train": "images",
            "val": "images",
            "names": {0: "pill"},
        }
        (folder / "data.yaml").write_text(yaml.safe_dump(data))
        return cls(project, folder, classifier_onnx, threads, {})

    def detector(self, weights: str) -> Took:
        return self._took(
            weights,
            "yolo",
            f"--weights={self.folder / weights}",
            f"--data={self.folder / 'data.yaml'}",
            f"--size={self.project.config.input_shape('detection')[2]}",
        )

    def classifier(self) -> Took:
        config = self.project.config
        return self._took(
            "classifier",
            "timm",
            f"--checkpoint={config.exp_dir / 'checkpoints' / 'classification_best.pt'}",
            f"--onnx={self.classifier_onnx}",
            f"--data={config.data.val.single}",
            f"--size={config.input_shape('classification')[2]}",
            f"--backbone={config.classification.backbone}",
            f"--classes={config.classification.num_classes}",
        )

    def _took(self, name: str, *arguments: str) -> Took:
        shared = [
            f"--batch={self.project.config.compare.batch_size}",
            f"--threads={self.threads}",
        ]
        # ultralytics writes a folder of results where it runs.
        ran = timed_process([str(PASSES), *arguments, *shared], cwd=self.folder)
        done = ran.done
        if done.returncode != 0:
            print(done.stdout, done.stderr, file=sys.stderr)
            raise SystemExit(f"{name}: exit code {done.returncode}")
        self.notes[name] = json.loads(done.stdout.splitlines()[-1])
        return ran.seconds, ran.cpu_s


if __name__ == "__main__":
    sys.exit(main())
