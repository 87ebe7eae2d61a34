"""Models of the service: chosen at the start, loaded and warmed up beside the running ones."""

from __future__ import annotations

import ctypes
import gc
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pillsnap.config.cells import CLASSIFICATION, DETECTION
from pillsnap.config.settings import Config
from pillsnap.core.errors import EngineError, MissingCheckpoint
from pillsnap.core.hashes import sha256_file
from pillsnap.core.logrecords import open_log
from pillsnap.core.printable import printable
from pillsnap.engines.onnxruntime.providers import NAMES, select_onnx_providers
from pillsnap.infer.choice import VARIABLES, choose_model, engine_of
from pillsnap.infer.models import Opened, make_pipeline, model_stage
from pillsnap.pipeline.twostage import Pipeline
from pillsnap.serve.approval import is_approved, require_allowed
from pillsnap.serve.batching import Batcher
from pillsnap.serve.metrics import Metrics
from pillsnap.serve.opening import open_proven
from pillsnap.serve.refusal import Refusal

log = open_log(__name__)


@dataclass(frozen=True)
class Loaded:
    """A model that serves.

    Attributes:
        reason: why it is this one.
        verified: whether a report of the gate has passed it on its provider.
    """

    opened: Opened
    path: Path
    reason: str
    verified: bool

    def describe(self) -> dict[str, Any]:
        """What /version says of it; of its path the name alone."""
        facts = {"file": printable(self.path.name), "reason": self.reason}
        return {**self.opened.version, **facts, "verified": self.verified}


class ModelManager:
    """Chooses, loads and replaces the models that a batcher runs.

    Args:
        config: the whole configuration.
        environ: see read_environment.

    Raises:
        PillsnapError: no classifier is found, a variable is wrong, or a model cannot run. Without a
            detector only mode single is served, unless the config's mode is combo.
    """

    def __init__(self, config: Config, environ: Mapping[str, str], metrics: Metrics) -> None:
        self.config = config
        self._folders = config.serve.model_dirs or (config.out_dir,)
        self._reloading = threading.Lock()
        self._loaded: dict[str, Loaded] = {}
        for stage in (CLASSIFICATION, DETECTION):
            try:
                choice = choose_model(config, stage, environ)
            except MissingCheckpoint:
                if stage == CLASSIFICATION or config.pipeline.mode == "combo":
                    raise
                log.warning("no detector is found: mode combo is not served")
                continue
            self._loaded[stage] = self._load(stage, choice.path, choice.reason)
            if not self._loaded[stage].verified:
                if not (choice.passed or config.serve.allow_unverified):
                    raise _unpassed(choice.path, stage)
                log.warning("no report of the gate has passed the %s model", stage)
        self.batcher = Batcher(self._pipeline(self._loaded), metrics.observe_batch)

    def describe(self) -> dict[str, dict[str, Any]]:
        """The models in use, by stage."""
        return {stage: loaded.describe() for stage, loaded in sorted(self._loaded.items())}

    def reload(self, paths: Mapping[str, str], *, allow_unverified: bool) -> None:
        """Replace models, all of them or none; the old ones serve until the new ones do.

        Args:
            paths: what the client names, by stage; "" is whatever stage the file is for.
            allow_unverified: take models that no report has passed.

        Raises:
            Refusal: a path outside the allowed folders, no such file, or a model not passed.
            PillsnapError: no model, one for another stage or configuration, or one that cannot run.
        """
        if allow_unverified and not self.config.serve.allow_unverified:
            raise Refusal(403, "this service does not permit allow_unverified")
        with self._reloading, memory_returned():
            loaded = dict(self._loaded)
            for named, text in paths.items():
                path = require_allowed(text, self._folders)
                stage = model_stage(path)
                if named not in ("", stage):
                    raise Refusal(422, f"this model is for {stage}, not for {named}")
                digest = None if allow_unverified else self._require_passed(stage, path)
                loaded[stage] = self._load(stage, path, "reload", digest)
                if not (allow_unverified or loaded[stage].verified):
                    raise Refusal(
                        403,
                        f"the {stage} model runs on {loaded[stage].opened.provider} or keeps "
                        "weights in other files, which no report vouches for",
                    )
            self.batcher.swap(self._pipeline(loaded))
            self._loaded = loaded

    def _require_passed(self, stage: str, path: Path) -> str:
        """SHA-256 of a file; refuses one that nobody vouches for before it is loaded."""
        digest, providers = sha256_file(path), self._providers(path)
        if any(is_approved(self._reports, stage, digest, name) for name in providers):
            return digest
        raise Refusal(
            403,
            f"no report of the gate has passed this {stage} model on {' or '.join(providers)}: "
            f"verify it with pytest --candidate {stage}={path.name}",
        )

    def _providers(self, path: Path) -> list[str]:
        """What a file may run on: what models of its engine run on already, else what the
        configuration lets it ask for."""
        engine = engine_of(path)
        versions = [loaded.opened.version for loaded in self._loaded.values()]
        in_use = [facts["provider"] for facts in versions if facts["engine"] == engine]
        if in_use or engine == "torch":
            return in_use or ["torch"]
        provider = self.config.serve.provider
        return [NAMES[provider]] if provider in NAMES else select_onnx_providers(provider)

    @property
    def _reports(self) -> Path:
        return self.config.out_dir / "reports"

    def _load(self, stage: str, path: Path, reason: str, sha256: str | None = None) -> Loaded:
        opened = open_proven(self.config, stage, path, sha256)
        facts = opened.version
        verified = is_approved(self._reports, stage, facts["sha256"], facts["provider"])
        return Loaded(opened, path, reason, verified and opened.whole)

    def _pipeline(self, loaded: Mapping[str, Loaded]) -> Pipeline:
        return make_pipeline(
            self.config,
            classifier=loaded[CLASSIFICATION].opened,
            detector=loaded[DETECTION].opened if DETECTION in loaded else None,
            batch_size=self.config.serve.batch_size,
        )


def _unpassed(path: Path, stage: str) -> EngineError:
    return EngineError(
        f"the gate has passed no {stage} export: the newest is not served by itself",
        where=path,
        expected=f"latest_{stage}.onnx beside it, or a report that passed it",
        hint=f"run pytest -m smoke, name a model by {VARIABLES[stage]}, or set "
        "serve.allow_unverified",
    )


@contextmanager
def memory_returned() -> Iterator[None]:
    """Hand what the block has freed back to the system, also where it fails.

    ONNX Runtime frees what a dropped session held, but glibc keeps it: without this, 60 reloads of
    the demo's models took a process from 133 to 226 MiB; with it, 200 took it from 134 to 130.
    """
    try:
        yield
    finally:
        _trim()


def _trim() -> None:
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # other C libraries have none
    if trim is not None:
        trim(0)
