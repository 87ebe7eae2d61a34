"""The other side of peers.py: what is run today to see that an export behaves as its checkpoint.

    python benchmarks/peer_passes.py yolo --weights FILE.pt|FILE.onnx --data data.yaml
    python benchmarks/peer_passes.py timm --checkpoint FILE.pt --onnx FILE.onnx --data FOLDER

yolo is `yolo val` with rect=False and plots=False, conf and iou as they come. timm is its
validate.py and onnx_validate.py one after the other, with timm's data set, loader and transform,
for a classifier whose normalisation is 0.5. Both end with a JSON line: accuracy, so that one sees
that the pass ran, and seconds.

The one thing that is set otherwise than they come: the number of threads. ultralytics gives torch
one thread less than there are cores, and ONNX Runtime one for each physical core; here it is
--threads for all.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kind", choices=("yolo", "timm"))
    for name in ("--weights", "--checkpoint", "--onnx", "--data"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--backbone", help="of timm")
    parser.add_argument("--classes", type=int, help="of the classifier's head")
    arguments = parser.parse_args()
    fix_threads(arguments.threads)
    run = validate_detector if arguments.kind == "yolo" else validate_classifier
    print(json.dumps(run(arguments)))
    return 0


def fix_threads(threads: int) -> None:
    """ONNX Runtime sessions without options of their own get this many threads."""
    import onnxruntime as ort

    session = ort.InferenceSession

    def with_threads(path: str, options: Any = None, **rest: Any) -> Any:
        options = options or ort.SessionOptions()
        options.intra_op_num_threads = threads
        return session(path, options, **rest)

    ort.InferenceSession = with_threads


def validate_detector(arguments: argparse.Namespace) -> dict[str, Any]:
    started = time.perf_counter()
    from ultralytics import YOLO
    from ultralytics.utils import torch_utils

    torch_utils.NUM_THREADS = arguments.threads
    imported = time.perf_counter()
    metrics = YOLO(str(arguments.weights), task="detect").val(
        data=str(arguments.data),
        imgsz=arguments.size,
        batch=arguments.batch,
        rect=False,
        plots=False,
        device="cpu",
        verbose=False,
    )
    return {
        "import_s": round(imported - started, 2),
        "seconds": round(time.perf_counter() - imported, 2),
        "map_0_5_0_95": float(metrics.box.map),
        "ms_per_image": {name: round(value, 1) for name, value in metrics.speed.items()},
    }


def validate_classifier(arguments: argparse.Namespace) -> dict[str, Any]:
    started = time.perf_counter()
    import onnxruntime as ort
    import timm
    import torch

    imported = time.perf_counter()
    torch.set_num_threads(arguments.threads)
    model = timm.create_model(
        arguments.backbone,
        pretrained=False,
        num_classes=arguments.classes,
        checkpoint_path=str(arguments.checkpoint),
    ).eval()

    def infer_torch(images: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return model(images)

    torch_accuracy = top1(arguments, infer_torch)
    first = time.perf_counter()
    session = ort.InferenceSession(str(arguments.onnx), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def infer_onnx(images: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(session.run(None, {name: images.numpy()})[0])

    onnx_accuracy = top1(arguments, infer_onnx)
    return {
        "import_s": round(imported - started, 2),
        "torch_s": round(first - imported, 2),
        "onnx_s": round(time.perf_counter() - first, 2),
        "torch_top1": torch_accuracy,
        "onnx_top1": onnx_accuracy,
    }


def top1(arguments: argparse.Namespace, infer: Callable[[Any], Any]) -> float:
    """Share of the images whose best class is that of their folder, as timm numbers folders."""
    from timm.data import create_dataset, create_loader

    loader = create_loader(
        create_dataset("", str(arguments.data)),
        input_size=(3, arguments.size, arguments.size),
        batch_size=arguments.batch,
        use_prefetcher=False,
        interpolation="bicubic",
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        crop_pct=1.0,
        num_workers=arguments.threads,
        is_training=False,
    )
    right = total = 0
    for images, target in loader:
        right += int((infer(images).argmax(dim=1) == target).sum())
        total += len(target)
    return right / total


if __name__ == "__main__":
    sys.exit(main())
