"""Which file is a stage's model: of the environment, an export, else the checkpoint."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pillsnap.config.cells import CLASSIFICATION, DETECTION
from pillsnap.config.settings import Config
from pillsnap.core.errors import ConfigError, MissingCheckpoint
from pillsnap.core.hashes import VERSION_TAG
from pillsnap.core.logrecords import open_log
from pillsnap.core.modelfiles import named_model
from pillsnap.core.placeholders import read_placeholder
from pillsnap.engines import EXPORTED, entries, find_entry
from pillsnap.engines.torch.checkpoints import checkpoint_paths, find_best_checkpoint

log = open_log(__name__)

# Where a stage's own variable is not set, MODEL_PATH is looked at.
VARIABLES = {
    CLASSIFICATION: "CLASSIFICATION_MODEL_PATH",
    DETECTION: "DETECTION_MODEL_PATH",
}


@dataclass(frozen=True)
class Choice:
    """A stage's model.

    Attributes:
        path: an .onnx file, a graph of OpenVINO, or a checkpoint.
        reason: why it is this one, without its folder: it may be shown to clients.
        passed: False for an export that was found by its name alone: no link says that the gate has
            passed it.
        warning: what is odd about it, if anything.
    """

    path: Path
    reason: str
    passed: bool = True
    warning: str = ""


def engine_of(path: Path, config: Config) -> str:
    """The first engine that opens files of this suffix; of an export, pipeline.engine."""
    usual = config.pipeline.engine
    if path.suffix == EXPORTED:
        return usual
    return next((each.name for each in entries() if path.suffix in each.suffixes), usual)


def choose_model(
    config: Config, stage: str, environ: Mapping[str, str], engine: str | None = None
) -> Choice:
    """find_model's, or find_checkpoint's for an engine that takes no exports, with the reason in
    the log."""
    exports = engine is None or find_entry(engine).takes_exports
    find = find_model if exports else find_checkpoint
    choice = find(config, stage, environ)
    if choice.warning:
        log.warning("%s: %s", stage, choice.warning)
    log.info("%s: %s (%s)", stage, choice.path, choice.reason)
    return choice


def find_model(config: Config, stage: str, environ: Mapping[str, str]) -> Choice:
    """The model of a stage: from the environment, else the export that the gate passed last, else
    the newest export, else the checkpoint.

    A variable that is set and wrong is an error, never a reason to look further.

    Args:
        environ: see read_environment. Relative paths start at the config file's folder.

    Raises:
        ConfigError: a variable names no file that can be read, or a folder without exports.
        MissingCheckpoint: nothing is found anywhere.
    """
    return (
        _from_variable(config, stage, VARIABLES[stage], environ)
        or _from_variable(config, stage, "MODEL_PATH", environ)
        or _from_exports(config.out_dir, stage, "export.out_dir")
        or _from_checkpoint(config, stage)
    )


def find_checkpoint(config: Config, stage: str, environ: Mapping[str, str]) -> Choice:
    """The checkpoint of a stage: that which the environment names, else the best one; arguments and
    errors as find_model's."""
    for name in (VARIABLES[stage], "MODEL_PATH"):
        named = _from_variable(config, stage, name, environ)
        if named is not None and not find_entry(engine_of(named.path, config)).takes_exports:
            return named
    return Choice(find_best_checkpoint(config, stage), "the checkpoint, for engine torch")


def _from_variable(
    config: Config, stage: str, name: str, environ: Mapping[str, str]
) -> Choice | None:
    text = environ.get(name)
    if not text:
        return None
    try:
        path = named_model(config.source.absolute().parent / Path(text).expanduser())
        is_folder = path.is_dir()
    # A name that is too long, ~user of nobody, a NUL.
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise _wrong(name, text, "a path", reason) from error
    if is_folder and name == "MODEL_PATH":
        found = _from_exports(path, stage, name)
        if found is None:
            raise _wrong(name, text, f"a folder with latest_{stage}.onnx or {stage}-<tag>.onnx")
        return found
    problem = _is_missing(path)
    if problem:
        raise _wrong(name, text, "an .onnx file or a checkpoint that can be read", problem)
    if name == "MODEL_PATH" and stage == DETECTION:
        return None  # a file there is the classifier
    return Choice(path, f"{name} is set")


def _is_missing(path: Path) -> str | None:
    """Why a path is no file that can be read; None for one that is."""
    try:
        if path.is_dir():
            return "it is a folder"
        if path.exists() and not path.is_file():  # opening a FIFO waits for its writer
            return "it is not a regular file"
        with path.open("rb"):
            return None
    except (OSError, ValueError) as error:  # a NUL is a ValueError
        return error.strerror if isinstance(error, OSError) else str(error)


def _wrong(name: str, text: str, expected: str, reason: str | None = None) -> ConfigError:
    return ConfigError(
        f"{name} names no model" + (f": {reason.lower()}" if reason else ""),
        where=f"environment variable {name}, or .env",
        got=text,
        expected=expected,
        hint="mend the path, or unset the variable to take the newest export",
    )


def _from_exports(folder: Path, stage: str, place: str) -> Choice | None:
    latest = folder / f"latest_{stage}.onnx"
    name = re.compile(rf"{stage}-{VERSION_TAG}\.onnx")
    reason, warning, linked = f"latest_{stage}.onnx of {place}", "", latest.is_symlink()
    standing = read_placeholder(latest)
    if standing is not None and name.fullmatch(standing.target or ""):
        # Copied without its kind, a link still says by its text where it leads.
        warning, linked = f"{latest} is {standing.kind}", True
        latest = folder / str(standing.target)
    if latest.is_file():
        if not linked:
            reason += f", a copy of the newest {stage} export that passed"
        return Choice(latest.resolve(), reason, warning=warning)
    files = [path for path in folder.glob(f"{stage}-*.onnx") if name.fullmatch(path.name)]
    newest = max(files, key=lambda path: path.name, default=None)
    if newest is None:
        return None
    return Choice(
        newest,
        f"newest {stage} export of {place}; no latest_{stage}.onnx says that it has passed",
        passed=False,
        warning="no link leads to an export that the gate has passed"
        + (f": latest_{stage}.onnx leads nowhere" if linked else ""),
    )


def _from_checkpoint(config: Config, stage: str) -> Choice:
    try:
        path = find_best_checkpoint(config, stage)
    except MissingCheckpoint as error:
        raise MissingCheckpoint(
            f"there is no {stage} model",
            where=f"{VARIABLES[stage]} and MODEL_PATH are not set; {config.out_dir} has no export",
            got=f"no checkpoint either: {checkpoint_paths(config, stage)[0]}",
            hint=f"export one with pillsnap gate, or set {VARIABLES[stage]}",
        ) from error
    return Choice(
        path,
        "the checkpoint: there is no export",
        warning="no export, so the checkpoint runs on torch",
    )
