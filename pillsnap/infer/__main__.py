"""pillsnap infer: run the models over images, one JSON line an image.

The same preprocessing, engines, NMS and crops as the gate and the service, so what it prints is
what was verified.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from pillsnap.config.cells import CLASSIFICATION, DETECTION
from pillsnap.config.load import find_config, load_config, read_environment
from pillsnap.config.settings import Config, Serve
from pillsnap.core.errors import ConfigError, PillsnapError
from pillsnap.core.logrecords import open_log
from pillsnap.core.modelfiles import named_model
from pillsnap.core.streams import print_line
from pillsnap.core.workers import thread_count
from pillsnap.engines import entries, find_entry, provider_names
from pillsnap.infer.answers import Answer, answer
from pillsnap.infer.choice import choose_model, engine_of
from pillsnap.infer.inputs import find_inputs
from pillsnap.infer.int8 import quantize_model
from pillsnap.infer.journal import open_journal, results_key
from pillsnap.infer.models import Opened, make_pipeline, model_stage, open_model
from pillsnap.infer.outputs import json_line, name_drawn, open_results, require_format, save_drawn
from pillsnap.infer.progress import Tally
from pillsnap.pipeline.twostage import STAGES_OF
from pillsnap.report.index import ReportIndex
from pillsnap.report.standing import find_standing

log = open_log("pillsnap.infer")


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0; 1 if an image could not be read or answered; 2 for wrong arguments, config or
    model, and results that cannot be written; 130 where it was interrupted."""
    arguments = _parse(argv)
    # Which models are taken, and why.
    logging.basicConfig(format="%(message)s")
    logging.getLogger("pillsnap").setLevel(logging.INFO)
    try:
        failed = _infer(arguments)
    except PillsnapError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    for what, count in failed.items():
        print(f"{count} images could not be {what}", file=sys.stderr)
    return 1 if failed else 0


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="pillsnap infer", description=__doc__)
    add = parser.add_argument
    engines = [each.name for each in entries() if each.use or not each.takes_exports]
    add("--engine", choices=engines, help="default: by the model's name, and pipeline.engine")
    add(
        "--model",
        type=Path,
        help=".onnx, a folder of OpenVINO, or a checkpoint; default: as the service chooses it",
    )
    add("--inputs", required=True, nargs="+", help="images, or quoted globs with {a,b} and **")
    usual = Serve.batch_size
    add("--batch", type=int, default=usual, help="images, or crops, in one forward pass")
    add("--mode", choices=("single", "combo"), help="default: pipeline.mode of the config")
    add("--detector", type=Path, help="combo: the detector; default: as the service chooses it")
    add("--output", type=Path, help="results.jsonl or .csv; default: JSON lines on the terminal")
    add("--save-images", type=Path, metavar="DIR", help="photos with boxes and codes drawn")
    add("--quantize", choices=("int8",), help="run the models in INT8, made where not there yet")
    add("--provider", choices=provider_names(), default="auto")
    add("--config", help="config file (environment: PILLSNAP_CONFIG)")
    add("--threads", type=int)
    arguments = parser.parse_args(argv)
    if arguments.batch < 1:
        parser.error(f"--batch must be 1 or more, got {arguments.batch}")
    only = arguments.engine and find_entry(arguments.engine).only_provider
    if only and arguments.provider not in ("auto", only):
        parser.error(f"engine {arguments.engine} runs on provider {only}, not {arguments.provider}")
    arguments.model = arguments.model and named_model(arguments.model)
    arguments.detector = arguments.detector and named_model(arguments.detector)
    return arguments


def _infer(arguments: argparse.Namespace) -> Mapping[str, int]:
    """Write one result per image, in the order of their paths; see Tally.failed."""
    config = load_config(find_config(arguments.config, os.environ, Path.cwd()))
    output, folder, batch = arguments.output, arguments.save_images, arguments.batch
    if output is not None:
        require_format(output)
    paths = sorted({path for each in arguments.inputs for path in find_inputs(each)})
    threads = thread_count(arguments.threads, 1, config.runtime.cpu.intra_op_num_threads)
    mode, models = _open(arguments, config, threads)
    pipeline = make_pipeline(config, models, batch)
    drawn = {} if folder is None else name_drawn(paths, folder)

    def answers(first: int) -> Iterator[list[Answer]]:
        """Of the images from `first` on, by batch, drawn where that is asked for."""
        for start in range(first, len(paths), batch):
            part = answer(paths[start : start + batch], pipeline, mode)
            for path, each in zip(paths[start:], part, strict=False):
                if path in drawn and each.image is not None and "error" not in each.result:
                    save_drawn(each.image, each.result, drawn[path])
            yield part

    with closing(Tally(len(paths), sys.stderr)) as tally:
        if output is None:
            for part in answers(0):
                for each in part:
                    print_line(json_line(each.result), sys.stdout)
                    tally.note(each.result)
            return tally.failed
        options = {"mode": mode, "batch": batch, "threads": threads, "save_images": folder}
        key = results_key(config, models, pipeline.codes, options)
        with open_journal(output, key) as journal:
            for result in journal.known(paths, batch):
                tally.note(result)
            for part in answers(len(journal)):
                journal.add(part)
                for each in part:
                    tally.note(each.result)
            with open_results(output) as write:
                for result in journal.results():
                    write(result)
        return tally.failed


def _open(
    arguments: argparse.Namespace, config: Config, threads: int
) -> tuple[str, dict[str, Opened]]:
    """The mode that is asked for, and its models. In mode single a detector finds boxes alone."""
    environ = read_environment(config.source)
    mode = arguments.mode or config.pipeline.mode
    if arguments.detector is not None and mode != "combo":
        raise ConfigError(
            "only mode combo takes a detector beside the model",
            where="--detector",
            got=f"mode {mode}",
            hint="add --mode combo, or give the detector as --model to find boxes alone",
        )
    given = {CLASSIFICATION: arguments.model, DETECTION: arguments.detector}
    paths = {
        stage: given[stage] or choose_model(config, stage, environ, arguments.engine).path
        for stage in STAGES_OF[mode]
    }
    if mode == "single" and arguments.model and model_stage(arguments.model, config) == DETECTION:
        log.warning(
            "%s is a detector, so mode single, which classifies, becomes boxes: they are found and "
            "not classified",
            arguments.model,
        )
        mode, paths = "boxes", {DETECTION: arguments.model}
    return mode, {
        stage: _open_stage(arguments, config, stage, path, threads) for stage, path in paths.items()
    }


def _open_stage(
    arguments: argparse.Namespace, config: Config, stage: str, path: Path, threads: int
) -> Opened:
    entry = find_entry(arguments.engine or engine_of(path, config))
    provider = entry.only_provider or arguments.provider
    if arguments.quantize is not None:
        path = quantize_model(config, stage, path, entry)
    opened = open_model(config, stage, path, provider=provider, threads=threads, engine=entry.name)
    _warn_of_breach(config, stage, opened)
    return opened


def _warn_of_breach(config: Config, stage: str, opened: Opened) -> None:
    """Say so where reports judged this very file and do not come to a pass where it runs now."""
    facts, reports = opened.version, ReportIndex(config.out_dir / "reports")
    judged = reports.judgements(facts["sha256"])
    standing = find_standing(judged, stage, facts["provider"], config.runtime, opened.weights)
    if judged and not standing.approved:
        log.warning("the gate does not stand behind the %s model: %s", stage, standing.reason)


def run(argv: Sequence[str] | None = None) -> int:
    """main() as a process of its own: SIGTERM ends it as Ctrl-C does, and a reader that goes, as
    head does, as it ends any other command."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    return main(argv)


if __name__ == "__main__":
    sys.exit(run())
