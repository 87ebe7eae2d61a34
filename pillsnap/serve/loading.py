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

from pillsnap.config.settings import Config
from pillsnap.core.logrecords import open_log
from pillsnap.core.modelfiles import sha256_model
from pillsnap.core.printable import printable
from pillsnap.engines import find_entry
from pillsnap.infer.choice import engine_of
from pillsnap.infer.models import Opened, make_pipeline, model_stage
from pillsnap.pipeline.twostage import Pipeline
from pillsnap.report.index import ReportIndex
from pillsnap.serve.approval import look_up, require_allowed
from pillsnap.serve.batching import Batcher
from pillsnap.serve.metrics import Metrics
from pillsnap.serve.opening import open_proven, open_warm
from pillsnap.serve.refusal import Refusal
from pillsnap.serve.restart import describe_restart
from pillsnap.serve.starting import Start

log = open_log(__name__)


@dataclass(frozen=True)
class Loaded:
    """A model that serves, the reason why it is this one, and whether a report of the gate has
    passed it on its provider."""

    opened: Opened
    path: Path
    reason: str
    verified: bool

    def describe(self) -> dict[str, Any]:
        """What /version says of it; of its path the name alone."""
        facts = {"file": printable(self.path.name), "reason": self.reason}
        return {**self.opened.version, **facts, "verified": self.verified}


class ModelManager:
    """Loads the models that a batcher runs, at first those of `starts`, and replaces them.

    Raises:
        PillsnapError: a model has changed since it was chosen, or cannot run.
    """

    def __init__(
        self,
        config: Config,
        environ: Mapping[str, str],
        starts: Mapping[str, Start],
        metrics: Metrics,
    ) -> None:
        self.config = config
        self._environ = environ
        self._reports = ReportIndex(config.out_dir / "reports")
        self._folders = config.serve.model_dirs or (config.out_dir,)
        self._reloading = threading.Lock()
        self._loaded = {stage: self._begin(stage, start) for stage, start in starts.items()}
        self.batcher = Batcher(self._pipeline(self._loaded), metrics.observe_batch)

    def describe(self) -> dict[str, dict[str, Any]]:
        """The models in use, by stage."""
        return {stage: loaded.describe() for stage, loaded in sorted(self._loaded.items())}

    def describe_all(self) -> dict[str, dict[str, Any]]:
        """The models in use, by stage, each with what a restart would serve: see
        describe_restart."""
        return {
            stage: {**facts, "restart": self._restart(stage)}
            for stage, facts in self.describe().items()
        }

    def _restart(self, stage: str) -> dict[str, Any]:
        return describe_restart(self.config, stage, self._loaded[stage].path, self._environ)

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
        self.batcher.require_running()
        with self._reloading, memory_returned():
            loaded = dict(self._loaded)
            for named, text in paths.items():
                path = require_allowed(text, self._folders)
                stage = model_stage(path, self.config)
                if named not in ("", stage):
                    raise Refusal(422, f"this model is for {stage}, not for {named}")
                digest = None if allow_unverified else self._require_passed(stage, path)
                loaded[stage] = self._load(stage, path, digest)
                if not (allow_unverified or loaded[stage].verified):
                    provider = loaded[stage].opened.version["provider"]
                    raise Refusal(
                        403,
                        f"the {stage} model runs on {provider} or keeps weights in other files, "
                        "which no report vouches for",
                    )
            self.batcher.swap(self._pipeline(loaded))
            changed = [stage for stage in loaded if loaded[stage] is not self._loaded.get(stage)]
            self._loaded = loaded
        for stage in changed:
            self._log_restart(stage)

    def _log_restart(self, stage: str) -> None:
        path, restart = self._loaded[stage].path, self._restart(stage)
        if restart["same"]:
            log.info("%s: %s serves, after a restart too", stage, path)
        else:
            served = restart["file"] or "nothing"
            log.warning(
                "%s: %s serves until a restart, which would take %s (%s); to keep it %s",
                *(stage, path, served, restart["reason"], restart["to_keep"]),
            )

    def _require_passed(self, stage: str, path: Path) -> str:
        """SHA-256 of a file; refuses one that nobody vouches for before it is loaded."""
        digest, reasons = sha256_model(path), []
        for provider in dict.fromkeys(self._providers(path)):
            standing = look_up(self._reports, stage, digest, provider, self.config.runtime)
            if standing.approved:
                return digest
            reasons.append(standing.reason)
        raise Refusal(
            403,
            f"the gate does not stand behind this {stage} model ({'; '.join(reasons)}): verify it "
            f"with pillsnap gate --candidate {stage}=PATH_OF/{path.name}, and --precision fp16 "
            "or int8 where it is of that",
        )

    def _providers(self, path: Path) -> list[str]:
        """What a file may run on: what models of its engine run on already, else what the
        configuration lets it ask for."""
        engine = engine_of(path, self.config)
        versions = [loaded.opened.version for loaded in self._loaded.values()]
        in_use = [facts["provider"] for facts in versions if facts["engine"] == engine]
        return in_use or [*find_entry(engine).reported(self.config.serve.provider)]

    def _begin(self, stage: str, start: Start) -> Loaded:
        path = start.choice.path
        opened = open_warm(self.config, stage, path, start.version["sha256"])
        verified = start.verified and opened.version["provider"] == start.version["provider"]
        return Loaded(opened, path, start.choice.reason, verified)

    def _load(self, stage: str, path: Path, sha256: str | None) -> Loaded:
        opened = open_proven(self.config, stage, path, sha256)
        facts = opened.version
        how = facts["provider"], self.config.runtime
        standing = look_up(self._reports, stage, facts["sha256"], *how)
        return Loaded(opened, path, "reload", standing.approved and opened.whole)

    def _pipeline(self, loaded: Mapping[str, Loaded]) -> Pipeline:
        models = {stage: each.opened for stage, each in loaded.items()}
        return make_pipeline(self.config, models, self.config.serve.batch_size)


@contextmanager
def memory_returned() -> Iterator[None]:
    """Hand what the block has freed back to the system, also where it fails.

    ONNX Runtime frees what a dropped session held, but glibc keeps it: without this, 60 reloads of
    the demo's models took a process from 133 to 226 MiB; with it, 200 took it from 134 to 130.
    """
    try:
        yield
    finally:
        gc.collect()
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # other C libraries have none
        if trim is not None:
            trim(0)
