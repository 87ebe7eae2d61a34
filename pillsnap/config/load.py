"""Finding and reading config.yaml, the environment and .env into a Config.

Precedence is command line, then environment, then .env beside the config file, then the file.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from pillsnap.config.cells import STAGES
from pillsnap.config.dotenv import read_env_file, read_value
from pillsnap.config.parse import parse_yaml, variable_names
from pillsnap.config.settings import Config
from pillsnap.core.errors import ConfigError
from pillsnap.core.remote import RemotePath
from pillsnap.core.textfiles import is_file

# Of .env, beside what the config file names as ${NAME}.
ENV_NAMES = (
    "OPSET",
    "CLASSIFICATION_MODEL_PATH",
    "DETECTION_MODEL_PATH",
    "MODEL_PATH",
    "API_KEY",
)


def find_config(option: str | None, environ: Mapping[str, str], start: Path) -> Path:
    """Path of the config file: the option, else PILLSNAP_CONFIG, else start/config.yaml."""
    name, value = "--config", option
    if value is None and "PILLSNAP_CONFIG" in environ:
        name = "PILLSNAP_CONFIG"
        value = read_value(name, environ[name])
    path = start / "config.yaml" if value is None else Path(value)
    if value is not None and value.startswith("~/"):  # where no shell expands it, as in YAML of CI
        path = path.expanduser()
    if is_file(path):
        return path.resolve()
    if value is not None:
        raise ConfigError(
            "there is no such config file", where=name, got=value, hint="check the path"
        )
    raise ConfigError(
        "no config.yaml found",
        where=start,
        hint="run from a folder that holds one, pass --config PATH, set PILLSNAP_CONFIG, or have "
        "pillsnap init write one",
    )


def load_config(path: Path, environ: Mapping[str, str] | None = None) -> Config:
    """Read and validate a config file, with read_environment's variables; raises ConfigError that
    names all there is: unreadable file, unknown key, wrong type or bad value."""
    env = read_environment(path, environ)
    config = _with_copies(replace(parse_yaml(Config, path, env), source=path))
    opset = env.get("OPSET")
    if opset:
        config = replace(config, export=replace(config.export, opset=_opset(opset)))
    _check(config, path)
    return config


def read_environment(config: Path, environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment, os.environ by default, over `.env` beside the config file; a variable that
    is used means the same in both.

    Raises:
        ConfigError: .env cannot be read, or a variable that is used stands there in a broken line,
            or in the environment in broken quotes.
    """
    used = {*ENV_NAMES, *variable_names(config)}
    beside = read_env_file(config.parent / ".env", used)
    around = os.environ if environ is None else environ
    taken = {name: read_value(name, around[name]) for name in used & around.keys()}
    return {**beside, **around, **taken}


def _with_copies(config: Config) -> Config:
    """A config whose remote paths know where their copies are kept."""
    folder = config.exp_dir / "cache" / "remote"
    limit = int(config.data.remote_cache_gib * 2**30)

    def kept(value: Any) -> Any:
        if isinstance(value, RemotePath):
            return RemotePath.at(value.url, replace(value.origin, folder=folder, limit=limit))
        if not is_dataclass(value) or isinstance(value, type):
            return value
        old = {item.name: getattr(value, item.name) for item in fields(value)}
        new = {name: made for name in old if (made := kept(old[name])) is not old[name]}
        return replace(value, **new) if new else value

    found: Config = kept(config)
    return found


def _opset(text: str) -> int:
    if not text.isdecimal() or not 13 <= int(text) <= 22:
        raise ConfigError(
            "OPSET is not an opset this exporter can write",
            where="environment variable OPSET",
            got=text,
            expected="a whole number from 13 to 22",
        )
    return int(text)


def _check(config: Config, path: Path) -> None:
    """What no single value can say: rules between keys."""
    bins = config.compare.hardness_bins
    if len(bins) < 2 or list(bins) != sorted(set(bins)):
        raise ConfigError(
            "hardness_bins must rise",
            where=f"{path}: export.compare.hardness_bins",
            got=list(bins),
            expected="at least two edges between 0 and 1, in rising order",
        )
    combo = config.data.val.combo
    if combo is not None and combo.is_data_yaml and combo.labels is not None:
        raise ConfigError(
            "a data.yaml says itself where its labels are",
            where=f"{path}: data.val.combo.labels",
            got=combo.labels,
            expected="null",
            hint="leave the key out, or give the folder of images in place of the data.yaml",
        )
    for stage in STAGES:
        shape = config.input_shape(stage)
        if shape[1] != 3 or (stage == "classification" and shape[2] != shape[3]):
            raise ConfigError(
                f"{stage} cannot take this input shape",
                where=f"{path}: export.input_shape.{stage}",
                got=list(shape),
                expected="[N, 3, H, W]" if stage == "detection" else "[N, 3, S, S]",
            )
