"""Whether healthy exports of all kinds of models are as exact as torch: what the limit of exactness
comes from.

    python benchmarks/zoo.py [--jobs 2] [--only yolo11n resnet18] [--providers cpu] > zoo.jsonl

Exports every detection yaml of ultralytics at its smallest scale, and of every family of timm the
model that is named below, through the gate's own path, and verifies it by the demo's images: with
either exporter, with ONNX Runtime's optimisation as configured and off. The demo's models are
trained; the others have random weights, and BatchNorm statistics from a few batches in training
mode, since a network as initialised can blow rounding up to any size. One JSON line a run, then a
table on stderr. Each model has a process of its own: what crashes costs itself alone.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from projects import HALF, keep_offline, make_demo, photo_batches, scene_batches, workdir_parser

from pillsnap.config.selection import Selection
from pillsnap.config.settings import Config, Exporter
from pillsnap.core.cpus import usable_cpus
from pillsnap.core.errors import PillsnapError
from pillsnap.demo.drugs import DRUGS
from pillsnap.gate.ledger import judge_mode
from pillsnap.gate.run import GateRun
from pillsnap.pipeline.transforms import ClassifyTransform, LetterboxTransform
from pillsnap.proof.healthy import settle_batchnorm

SAMPLES = 8
OPSETS: dict[Exporter, int] = {"torchscript": 17, "dynamo": 18}
LEVELS = ("ORT_ENABLE_ALL", "ORT_DISABLE_ALL")
SIZE = 320
CLASSES = 3
TIMEOUT_S = 1800
# By family of timm (the module that defines it), one of its smallest; the side of the input, where
# it is not free.
CLASSIFIERS: dict[str, int] = {
    "eca_halonext26ts": 256,
    "lambda_resnet26t": 256,
    "gernet_s": 128,
    "mobileone_s0": 128,
    "repvgg_a0": 128,
    "resnext26ts": 128,
    "convnext_atto": 128,
    "cpubone_nano": 128,
    "csatv2": 256,
    "cs3darknet_s": 128,
    "cspnext_tiny": 128,
    "davit_tiny": 224,
    "densenet121": 128,
    "dla46_c": 128,
    "dpn48b": 128,
    "edgenext_xx_small": 256,
    "efficientnet_b0": 128,
    "efficientnet_b0_gn": 128,
    "efficientnetv2_rw_t": 128,
    "tf_efficientnetv2_b0": 128,
    "mixnet_s": 128,
    "tinynet_e": 128,
    "efficientvim_m1": 224,
    "efficientvit_b0": 224,
    "fasternet_t0": 128,
    "fastvit_t8": 256,
    "focalnet_tiny_srf": 224,
    "ghostnet_050": 128,
    "ghostnetv3_050": 128,
    "hardcorenas_a": 128,
    "hgnetv2_b0": 128,
    "hrnet_w18_small": 128,
    "inception_next_atto": 128,
    "inception_resnet_v2": 299,
    "inception_v3": 299,
    "inception_v4": 299,
    "iformer_t": 224,
    "lcnetv2_small": 128,
    "lowformer_b0": 224,
    "mambaout_femto": 128,
    "caformer_s18": 224,
    "poolformer_s12": 128,
    "mobilenetv3_small_050": 128,
    "mobilenetv4_conv_small": 128,
    "mobilevit_xxs": 256,
    "mobilevitv2_050": 256,
    "nasnetalarge": 331,
    "nextvit_small": 224,
    "dm_nfnet_f0": 128,
    "eca_nfnet_l0": 128,
    "pnasnet5large": 331,
    "pvt_v2_b0": 224,
    "rdnet_tiny": 128,
    "regnetx_002": 128,
    "regnety_002": 128,
    "repghostnet_050": 128,
    "repvit_m1": 128,
    "res2net50_26w_4s": 128,
    "resnest14d": 128,
    "resnet18": 128,
    "ecaresnet26t": 128,
    "seresnext26d_32x4d": 128,
    "resnetv2_18": 128,
    "rexnet_100": 128,
    "selecsls42": 128,
    "legacy_seresnet18": 128,
    "shvit_s1": 224,
    "skresnet18": 128,
    "starnet_s050": 128,
    "tiny_vit_5m_224": 224,
    "tresnet_m": 128,
    "vgg11_bn": 128,
    "ese_vovnet19b_slim_dw": 128,
    "legacy_xception": 299,
    "xception41": 299,
    "hieradet_small": 256,
    "beit_base_patch16_224": 224,
    "botnet26t_256": 256,
    "cait_xxs24_224": 224,
    "coat_lite_tiny": 224,
    "convit_tiny": 224,
    "crossvit_tiny_240": 240,
    "deit_tiny_patch16_224": 224,
    "deit3_small_patch16_224": 224,
    "efficientformer_l1": 224,
    "efficientformerv2_s0": 224,
    "efficientvit_m1": 224,
    "eva02_tiny_patch14_224": 224,
    "gcvit_xxtiny": 224,
    "hiera_tiny_224": 224,
    "levit_128s": 224,
    "coatnet_pico_rw_224": 224,
    "maxvit_rmlp_pico_rw_256": 256,
    "gmlp_ti16_224": 224,
    "mixer_s32_224": 224,
    "mvitv2_tiny": 224,
    "nest_tiny": 224,
    "pit_ti_224": 224,
    "sequencer2d_s": 224,
    "swiftformer_xs": 224,
    "swin_tiny_patch4_window7_224": 224,
    "swinv2_tiny_window8_256": 256,
    "swinv2_cr_tiny_224": 224,
    "tnt_s_patch16_224": 224,
    "twins_svt_small": 224,
    "visformer_tiny": 224,
    "vit_tiny_patch16_224": 224,
    "flexivit_small": 240,
    "vit_tiny_r_s16_p8_224": 224,
    "vit_relpos_small_patch16_224": 224,
    "samvit_base_patch16_224": 224,
    "vitamin_small_224": 224,
    "volo_d1_224": 224,
    "xcit_nano_12_p16_224": 224,
    "convmixer_768_32": 224,
    "test_byobnet": 160,
    "test_convnext": 160,
    "test_convnext2": 160,
    "test_convnext3": 160,
    "test_efficientnet": 160,
    "test_efficientnet_gn": 160,
    "test_efficientnet_ln": 160,
    "test_efficientnet_evos": 160,
    "test_mambaout": 160,
    "test_nfnet": 96,
    "test_resnet": 160,
    "test_vit": 160,
    "test_vit2": 160,
    "test_vit3": 160,
    "test_vit4": 160,
}
FIGURES = (
    *("logits_exactness", "box_exactness", "score_exactness", "precision_bits"),
    *("logits_rounding", "box_rounding", "score_rounding"),
    *("prob_err_max", "logit_err_max", "raw_box_err_px", "raw_score_err", "class_flip_gap"),
    *("top1_mismatch_count", "iou_delta_p95", "unmatched_rate"),
)


def main() -> int:
    parser = workdir_parser(__doc__)
    parser.add_argument("--jobs", type=int, default=1, help="models at a time")
    parser.add_argument("--only", nargs="*", help="names of models; all by default")
    parser.add_argument("--exporters", nargs="*", choices=OPSETS, default=list(OPSETS))
    parser.add_argument("--providers", nargs="*", default=["cpu"])
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    keep_offline()
    demo = make_demo(arguments.workdir.resolve()).config
    if arguments.one is not None:
        for line in measure(demo, arguments.one, arguments):
            print(json.dumps(line), flush=True)
        return 0
    names = arguments.only or ["demo detection", "demo classification", *detectors(), *CLASSIFIERS]
    lines = []
    with ThreadPoolExecutor(arguments.jobs) as pool:
        for future in as_completed([pool.submit(run_alone, name, arguments) for name in names]):
            lines += future.result()
            for line in future.result():
                print(json.dumps(line), flush=True)
    print("\n".join(table(lines)), file=sys.stderr)
    return 0


def run_alone(name: str, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """The lines of a model, measured in a process of its own."""
    command = [sys.executable, __file__, "--workdir", str(arguments.workdir), "--one", name]
    command += ["--jobs", str(arguments.jobs), "--providers", *arguments.providers]
    command += ["--exporters", *arguments.exporters]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return [{"model": name, "refused": f"not done after {TIMEOUT_S} s"}]
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode:
        problem = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        lines.append({"model": name, "refused": problem})
    return lines


def detectors() -> list[str]:
    """The yamls of ultralytics whose last layer detects boxes, at their smallest scale."""
    import ultralytics
    import yaml

    found = []
    for path in sorted(Path(ultralytics.__file__).parent.glob("cfg/models/**/*.yaml")):
        content = yaml.safe_load(path.read_text())
        if not content.get("head") or not str(content["head"][-1][2]).endswith(("Detect", "coder")):
            continue
        # yolov8-p2.yaml is read at scale n under the name yolov8n-p2.yaml.
        scale = next(iter(content.get("scales") or [""]))
        stem, _, rest = path.stem.partition("-")
        named = stem.endswith(scale) or stem.startswith(("rtdetr", "yoloe"))
        found.append(path.stem if named else f"{stem}{scale}-{rest}".removesuffix("-"))
    return found


def measure(demo: Config, name: str, arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A line for each exporter and level of optimisation."""
    compare = replace(demo.compare, sample_count=SAMPLES, batch_size=4)
    stage = "classification" if name in CLASSIFIERS else "detection"
    with tempfile.TemporaryDirectory() as folder:
        if name.startswith("demo "):
            stage, config = name.removeprefix("demo "), demo
        elif stage == "classification":
            config = random_classifier(demo, Path(folder), name, CLASSIFIERS[name])
        else:
            config = random_detector(demo, Path(folder), name)
        for exporter, level, provider in product(arguments.exporters, LEVELS, arguments.providers):
            runtime = replace(config.runtime, graph_optimization_level=level)
            out = Path(folder) / exporter
            export = replace(config.export, compare=compare, exporter=exporter, out_dir=out)
            export = replace(export, opset=OPSETS[exporter])
            tried = replace(config, export=export, runtime=runtime)
            line = {"model": name, "exporter": exporter, "optimisation": level}
            line["provider"] = provider
            selection = Selection(stages=(stage,), providers=(provider,))
            yield line | verify(tried, selection, Path(folder), arguments.jobs)


def verify(config: Config, selection: Selection, folder: Path, jobs: int) -> dict[str, Any]:
    """What the gate says of a model."""
    started = time.perf_counter()
    threads = max(1, usable_cpus() // jobs)
    run_dir = Path(tempfile.mkdtemp(dir=folder))
    try:
        run = GateRun(config, selection, threads=threads, run_dir=run_dir)
        (result,) = judge_mode(run, "smoke")
    except PillsnapError as error:
        return {"refused": str(error)}
    found = {key: result.metrics[key] for key in FIGURES if key in result.metrics}
    return {
        "size": config.input_shape(selection.stages[0])[2:],
        "verdict": result.verdict.name,
        "breaches": [str(breach) for breach in result.verdict.breaches],
        **(found or {"refused": result.verdict.reason}),
        "seconds": round(time.perf_counter() - started, 1),
    }


def random_classifier(demo: Config, folder: Path, backbone: str, size: int) -> Config:
    import timm
    import torch

    torch.manual_seed(0)
    model = timm.create_model(backbone, pretrained=False, num_classes=len(DRUGS))
    transform = ClassifyTransform(size, HALF, HALF, "bicubic", 1.0)
    settle_batchnorm(model, photo_batches(transform, 2))
    checkpoint = folder / "checkpoints" / "classification_best.pt"
    checkpoint.parent.mkdir()
    torch.save(model.state_dict(), checkpoint)
    return resized(demo, folder, "classification", size, backbone=backbone)


def random_detector(demo: Config, folder: Path, name: str) -> Config:
    import torch
    from ultralytics.nn import tasks

    torch.manual_seed(0)
    kinds = {"rtdetr": tasks.RTDETRDetectionModel, "world": tasks.WorldModel}
    build = next((each for part, each in kinds.items() if part in name), tasks.DetectionModel)
    model = build(f"{name}.yaml", nc=CLASSES, verbose=False)
    if "world" in name:  # as an encoder of texts gives them
        model.txt_feats = torch.nn.functional.normalize(model.txt_feats, dim=-1)
    settle_batchnorm(model, scene_batches(LetterboxTransform(SIZE, SIZE), 2))
    checkpoint = folder / "checkpoints" / "detection_best.pt"
    checkpoint.parent.mkdir()
    torch.save({"model": model, "train_args": {}}, checkpoint)
    return resized(demo, folder, "detection", SIZE, model=name, num_classes=CLASSES)


def resized(demo: Config, folder: Path, stage: str, size: int, **section: object) -> Config:
    shapes = replace(demo.export.input_shape, **{stage: (1, 3, size, size)})
    return replace(
        demo,
        paths=replace(demo.paths, exp_dir=folder),
        export=replace(demo.export, input_shape=shapes),
        **{stage: replace(getattr(demo, stage), **section)},
    )


def table(lines: list[dict[str, Any]]) -> list[str]:
    """A row a model: its exactness with either exporter, with optimisation and without, the largest
    of its parts; and the distribution over all."""
    cells: dict[str, dict[tuple[str, ...], str]] = {}
    values = []
    for line in lines:
        known = [line[key] for key in FIGURES[:3] if line.get(key) is not None]
        values += known
        text = f"{max(known):.3g}" if known else "refused"
        key = tuple(line.get(of, "") for of in ("exporter", "optimisation", "provider"))
        cells.setdefault(line["model"], {})[key] = text
    columns = list(dict.fromkeys(column for found in cells.values() for column in found))
    rows = [["model", *map(" ".join, columns)]] + [
        [name, *(found.get(column, "") for column in columns)] for name, found in cells.items()
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    text = [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    ordered = sorted(values)
    if ordered:
        marks = [
            (q, ordered[min(len(ordered) - 1, int(q * len(ordered)))]) for q in (0.5, 0.9, 0.99, 1)
        ]
        text.append(
            f"{len(ordered)} parts: " + ", ".join(f"{q:.0%} {value:.2f}" for q, value in marks)
        )
    return text


if __name__ == "__main__":
    sys.exit(main())
