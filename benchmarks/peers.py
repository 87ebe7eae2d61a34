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

--project demo has few, small images and tiny models; what is left there is start-up.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from projects import (
    Project,
    argument_parser,
    interleaved,
    machine,
    median,
    project_of,
    rounded,
    run_gate,
    timed_process,
)

PASSES = Path(__file__).with_name("peer_passes.py")


def main() -> int:
    parser = argument_parser(__doc__, project="full", n=128)
    parser.add_argument("--rounds", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.project == "demo" and arguments.n is not None:
        parser.error("theirs validate whole folders: leave out --n for the demo")
    project = project_of(arguments)
    threads = len(os.sched_getaffinity(0))
    exports = project.export()
    theirs = Theirs.prepare(project, exports["classification"], threads)
    candidates = [f"--candidate={stage}={path}" for stage, path in exports.items()]

    def cold() -> float:
        project.forget_references()
        return run_gate(project, "coverage").seconds

    def warm() -> float:
        return run_gate(project, "coverage", *candidates).seconds

    def ours() -> float:
        first.append(cold())
        further.append(warm())
        return first[-1] + further[-1]

    first: list[float] = []
    further: list[float] = []
    detector_pt, detector_onnx, classifier, _ = interleaved(
        arguments.rounds,
        lambda: theirs.detector("detector.pt"),
        lambda: theirs.detector("detector.onnx"),
        theirs.classifier,
        ours,
    )
    both = median(detector_pt) + median(detector_onnx) + median(classifier)
    onnx_pass = theirs.notes["classifier"]
    least = median(detector_onnx) + median(classifier) - onnx_pass["torch_s"]
    report = json.loads((project.config.out_dir / "export_report.json").read_text())
    result = {
        "benchmark": "peers",
        "project": project.name,
        "n": {cell["id"].partition("-")[0]: cell["samples"] for cell in report["cells"]},
        "batch_size": project.config.compare.batch_size,
        "threads": threads,
        "rounds": arguments.rounds,
        **machine(),
        "peers_first": round(both / median(first), 3),
        "peers_further": round(both / median(further), 3),
        "peers_further_least": round(least / median(further), 3),
        "ours_first_s": rounded(first),
        "ours_further_s": rounded(further),
        "yolo_val_pt_s": rounded(detector_pt),
        "yolo_val_onnx_s": rounded(detector_onnx),
        "timm_both_s": rounded(classifier),
        "their_notes": theirs.notes,
    }
    print(json.dumps(result))
    return 0


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

    def detector(self, weights: str) -> float:
        return self._seconds(
            weights,
            "yolo",
            f"--weights={self.folder / weights}",
            f"--data={self.folder / 'data.yaml'}",
            f"--size={self.project.config.input_shape('detection')[2]}",
        )

    def classifier(self) -> float:
        config = self.project.config
        return self._seconds(
            "classifier",
            "timm",
            f"--checkpoint={config.exp_dir / 'checkpoints' / 'classification_best.pt'}",
            f"--onnx={self.classifier_onnx}",
            f"--data={config.data.val.single}",
            f"--size={config.input_shape('classification')[2]}",
            f"--backbone={config.classification.backbone}",
            f"--classes={config.classification.num_classes}",
        )

    def _seconds(self, name: str, *arguments: str) -> float:
        shared = [
            f"--batch={self.project.config.compare.batch_size}",
            f"--threads={self.threads}",
        ]
        # ultralytics writes a folder of results where it runs.
        seconds, done = timed_process([str(PASSES), *arguments, *shared], cwd=self.folder)
        if done.returncode != 0:
            print(done.stdout, done.stderr, file=sys.stderr)
            raise SystemExit(f"{name}: exit code {done.returncode}")
        self.notes[name] = json.loads(done.stdout.splitlines()[-1])
        return seconds


if __name__ == "__main__":
    sys.exit(main())
