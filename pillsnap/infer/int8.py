"""INT8 for `python -m pillsnap.infer`: the gate's own conversion, of a model given by its file."""

from __future__ import annotations

from pathlib import Path

from pillsnap.compare.tasks import task_of
from pillsnap.config.settings import Config
from pillsnap.core.errors import ConfigError
from pillsnap.core.modelfiles import IR
from pillsnap.engines import Entry
from pillsnap.engines.torch.checkpoints import stage_transform
from pillsnap.export import describe_onnx
from pillsnap.export.quantize import (
    choose_calibration,
    describe_quantized,
    quantize_once,
    require_opened,
)


def quantize_model(config: Config, stage: str, path: Path, engine: Entry) -> Path:
    """The INT8 file of a float32 .onnx, by the config's method; it lies in config.out_dir.

    Raises:
        ConfigError: nothing that can be converted, or a method that only the gate can search by.
        PillsnapError: as quantize_once and choose_images.
    """
    if not engine.takes_exports or path.suffix == IR:
        raise ConfigError(
            "only ONNX files are quantised", where="--quantize", got=path, hint="give an .onnx"
        )
    engine.require()
    source = describe_onnx(path, stage)
    made = describe_quantized(source)
    if made is not None:
        raise ConfigError(
            "the model is of lower precision already",
            where="--quantize",
            got=f"{path}: {made['precision']}",
            expected="a float32 export",
        )
    settings = config.export.quantize
    if settings.int8_method == "auto":
        raise ConfigError(
            "method auto is a search that the gate makes",
            where=f"{config.source}: export.quantize.int8_method",
            hint="run pillsnap gate --precision int8, and give its file as --model",
        )
    calibration = None
    require_opened(settings.int8_method, engine)
    if settings.int8_method != "dynamic":  # nothing is verified here
        calibration = choose_calibration(
            config, task_of(stage).source, stage_transform(config, stage), ()
        )
    return quantize_once(
        config,
        stage,
        source,
        "int8",
        method=settings.int8_method,
        calibration=calibration,
        exclude=settings.nodes_to_exclude,
    ).path
