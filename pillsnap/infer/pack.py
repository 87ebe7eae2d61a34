"""`pillsnap pipeline`: a folder that ships, of the models that serve and pillsnap_pipeline.py.

Also of what no run of the gate publishes: a file of another exporter, or of lower precision.
"""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from pillsnap.config.cells import CLASSIFICATION, DETECTION, STAGES
from pillsnap.config.load import find_config, load_config, read_environment
from pillsnap.config.settings import Config
from pillsnap.core.errors import EngineError, MissingCheckpoint
from pillsnap.core.files import replace_atomic
from pillsnap.core.modelfiles import EXPORTED
from pillsnap.export import Exported, describe_onnx
from pillsnap.export.reading import read_bytes
from pillsnap.infer.choice import choose_model
from pillsnap.infer.standalone import FILE_NAME, make_standalone
from pillsnap.report.index import ReportIndex
from pillsnap.report.standing import find_standing


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0; errors are PillsnapError: a model that the gate does not stand behind, or that
    cannot be taken."""
    parser = argparse.ArgumentParser(prog="pillsnap pipeline", description=__doc__)
    add = parser.add_argument
    add("--out", required=True, type=Path, help="folder for pillsnap_pipeline.py and its models")
    add("--model", type=Path, help="the classifier; default: as the service chooses it")
    add("--detector", type=Path, help="the detector; default: as the service chooses it")
    add("--config", help="config file (environment: PILLSNAP_CONFIG)")
    arguments = parser.parse_args(argv)
    logging.basicConfig(format="%(message)s")
    logging.getLogger("pillsnap").setLevel(logging.INFO)
    config = load_config(find_config(arguments.config, os.environ, Path.cwd()))
    given = {CLASSIFICATION: arguments.model, DETECTION: arguments.detector}
    environ, models = read_environment(config.source), {}
    for stage in STAGES:
        try:
            path = given[stage] or choose_model(config, stage, environ).path
        except MissingCheckpoint:
            continue
        models[stage] = _approved(config, stage, path)
    if not models:
        raise MissingCheckpoint("there is no model to ship", hint="name one: --model, --detector")
    print(_write(config, models, arguments.out))
    return 0


def _approved(config: Config, stage: str, path: Path) -> Exported:
    """A stage's model, which the gate stands behind on a provider of ONNX Runtime."""
    if path.suffix != EXPORTED:
        raise EngineError("a pipeline in one file takes an .onnx", where=path)
    found = describe_onnx(path, stage)
    judged = ReportIndex(config.out_dir / "reports").judgements(found.sha256)
    standings = [
        find_standing(judged, stage, provider, config.runtime, found.weights)
        for provider in dict.fromkeys(str(each.provider) for each in judged)
        if provider.endswith("ExecutionProvider")
    ]
    if any(each.approved for each in standings):
        return found
    raise EngineError(
        f"the gate does not stand behind this {stage} model on ONNX Runtime",
        where=path,
        got="; ".join(each.reason for each in standings) or "no report of it",
        hint=f"verify it with pillsnap gate --candidate {stage}={path}, and --precision fp16 or "
        "int8 where it is of that",
    )


def _write(config: Config, models: Mapping[str, Exported], folder: Path) -> Path:
    """The models, of the bytes that were described, and the program beside them. Nothing gets its
    name before all of it is there: where this fails, what a folder shipped before still runs."""
    names = {stage: _name(stage, model) for stage, model in models.items()}
    program = make_standalone(config, models, names)
    path = folder / FILE_NAME
    with ExitStack() as written:  # which are renamed last to first
        written.enter_context(replace_atomic(path)).write_bytes(program)
        for stage, model in models.items():
            target = folder.resolve() / names[stage]
            if target != model.path:
                content = model.content()
                data = content if isinstance(content, bytes) else read_bytes(content)
                written.enter_context(replace_atomic(target)).write_bytes(data)
    return path


def _name(stage: str, model: Exported) -> str:
    """Of the model's file in the folder: both may be best.onnx."""
    name = model.path.name
    return name if name.startswith(stage) else f"{stage}-{name}"
