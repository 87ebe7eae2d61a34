"""Healthy exports, on which the gate must keep quiet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pillsnap.compare.loading import load_batches
from pillsnap.compare.tasks import read_samples
from pillsnap.config.cells import CLASSIFICATION, DETECTION
from pillsnap.config.selection import Selection
from pillsnap.config.settings import Config, Exporter
from pillsnap.data.sampling import select
from pillsnap.engines import Batch
from pillsnap.engines.torch.checkpoints import checkpoint_paths, stage_transform
from pillsnap.gate.ledger import judge_mode
from pillsnap.gate.run import GateRun
from pillsnap.proof.trial import alarms


@dataclass(frozen=True)
class Healthy:
    """A model, how it is exported, and in which batches it is verified.

    Attributes:
        model: of timm or ultralytics; "" for the trained one of the configuration.
        size: (H, W) of the input; None for the configuration's.
        seed: of random weights.
    """

    stage: str
    model: str
    size: tuple[int, int] | None
    exporter: Exporter
    opset: int
    batch: int
    seed: int = 0

    @property
    def id(self) -> str:
        size = "" if self.size is None else "-{}x{}".format(*self.size)
        name = self.model or "demo"
        seed = f"-seed{self.seed}" if self.seed else ""
        return f"{self.stage}-{name}{size}-{self.exporter}{self.opset}-batch{self.batch}{seed}"


# Batches of 1 to 9, odd sizes, both exporters, opsets 17 and 18.
HEALTHY = (
    Healthy(CLASSIFICATION, "", None, "torchscript", 17, 1),
    Healthy(CLASSIFICATION, "", None, "torchscript", 17, 2),
    Healthy(CLASSIFICATION, "", None, "torchscript", 18, 3),
    Healthy(CLASSIFICATION, "", None, "dynamo", 18, 9),
    Healthy(CLASSIFICATION, "resnet18", (97, 97), "torchscript", 17, 4),
    Healthy(CLASSIFICATION, "mobilenetv3_small_100", (127, 127), "torchscript", 18, 5),
    Healthy(CLASSIFICATION, "efficientnet_b0", (131, 131), "torchscript", 17, 6),
    Healthy(CLASSIFICATION, "efficientnet_b0", (96, 96), "dynamo", 18, 7),
    Healthy(CLASSIFICATION, "convnext_atto", (111, 111), "torchscript", 17, 8),
    Healthy(CLASSIFICATION, "vit_tiny_patch16_224", (224, 224), "torchscript", 17, 9),
    Healthy(DETECTION, "", None, "torchscript", 17, 1),
    Healthy(DETECTION, "", None, "torchscript", 18, 3),
    Healthy(DETECTION, "", None, "dynamo", 18, 5),
    Healthy(DETECTION, "", (352, 608), "torchscript", 17, 7),
    Healthy(DETECTION, "yolov8n", (320, 320), "torchscript", 17, 9),
    Healthy(DETECTION, "yolov10n", (288, 352), "torchscript", 18, 4),
    Healthy(DETECTION, "yolo11n", (320, 320), "dynamo", 18, 6),
    Healthy(DETECTION, "yolo26n", (224, 416), "torchscript", 17, 8),
)

# Enough for two batches of the largest, the second of them short.
SAMPLES = 11


def find_alarms(case: Healthy, config: Config, folder: Path, threads: int) -> dict[str, Any]:
    """Export a healthy model and verify it; what the gate has against it, as plain builtins.

    Random weights carry no signal, so that their cells are inconclusive in any case: an alarm is
    a figure outside the strict profile.

    Args:
        config: of the demo; its images are what is verified.
        folder: for checkpoints and exports; those of a model are used again.
    """
    config = prepare(case, config, folder)
    run = GateRun(
        config,
        Selection(stages=(case.stage,), reference_cache=False),
        threads=threads,
        run_dir=folder / "runs" / case.id,
    )
    (result,) = judge_mode(run, "smoke")
    return {
        "id": case.id,
        **asdict(case),
        "samples": result.samples,
        "verdict": result.verdict.name,
        "alarms": alarms(result, config),
    }


def prepare(case: Healthy, config: Config, folder: Path) -> Config:
    """The configuration of a case, whose checkpoint lies there; arguments as find_alarms."""
    config = _configured(case, config, folder)
    checkpoint = checkpoint_paths(config, case.stage)[0]
    if case.model and not checkpoint.exists():
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        _save_random(case, config, checkpoint)
    return config


def _configured(case: Healthy, config: Config, folder: Path) -> Config:
    _, channels, height, width = config.input_shape(case.stage)
    height, width = case.size or (height, width)
    shapes = replace(config.export.input_shape, **{case.stage: (1, channels, height, width)})
    compare = replace(
        config.compare,
        sample_count=SAMPLES,
        batch_size=case.batch,
        shard_size=SAMPLES,
    )
    export = replace(
        config.export,
        input_shape=shapes,
        compare=compare,
        exporter=case.exporter,
        opset=case.opset,
        out_dir=folder / "export",
    )
    config = replace(config, export=export)
    if not case.model:
        return config
    own = folder / f"{case.model}-{height}x{width}-seed{case.seed}"
    config = replace(config, paths=replace(config.paths, exp_dir=own))
    if case.stage == DETECTION:
        detection = replace(config.detection, model=case.model, checkpoint=None)
        return replace(config, detection=detection)
    classification = replace(config.classification, backbone=case.model, checkpoint=None)
    return replace(config, classification=classification)


def _save_random(case: Healthy, config: Config, path: Path) -> None:
    """Random weights, with BatchNorm statistics of real images, as any training leaves them: in a
    network as initialised, activations grow until rounding rules the outputs."""
    import torch

    torch.manual_seed(case.seed)
    if case.stage == DETECTION:
        from pillsnap.engines.torch.yolo import quiet_ultralytics

        quiet_ultralytics()
        from ultralytics.nn.tasks import DetectionModel

        classes = config.detection.num_classes
        model: Any = DetectionModel(f"{case.model}.yaml", nc=classes, verbose=False)
    else:
        import timm

        classes = config.classification.num_classes
        model = timm.create_model(case.model, pretrained=False, num_classes=classes)
    settle_batchnorm(model, _images(config, case.stage))
    detector = {"model": model, "train_args": {}}  # as ultralytics saves it
    torch.save(detector if case.stage == DETECTION else model.state_dict(), path)


def _images(config: Config, stage: str) -> Iterator[Batch]:
    """A few batches of the smoke samples, read from where the reference's are."""
    samples = select(read_samples(config, stage), config.compare, "smoke")[:8]
    for prepared in load_batches(samples, stage_transform(config, stage), 4):
        yield prepared.array


def settle_batchnorm(model: Any, batches: Iterable[Batch]) -> None:
    """Give BatchNorm the statistics of these batches, [N,3,H,W], as any training would; the model
    is in evaluation mode afterwards."""
    import torch

    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # a plain average over the batches
    model.train()
    with torch.no_grad():
        for batch in batches:
            model(torch.from_numpy(batch))
    model.eval()
