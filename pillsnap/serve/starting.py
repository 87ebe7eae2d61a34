"""The models that the service starts with, chosen and proven before any of them is loaded here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pillsnap.config.cells import CLASSIFICATION, DETECTION
from pillsnap.config.settings import Config
from pillsnap.core.errors import EngineError, MissingCheckpoint
from pillsnap.core.logrecords import open_log
from pillsnap.infer.choice import VARIABLES, Choice, choose_model
from pillsnap.report.index import ReportIndex
from pillsnap.serve.approval import look_up
from pillsnap.serve.opening import prove_model

log = open_log(__name__)


@dataclass(frozen=True)
class Start:
    """A stage's model to start with.

    Attributes:
        version: what it was when it was tried in a process of its own, see Opened.
        verified: whether a report of the gate has passed it on the provider that it ran on.
    """

    choice: Choice
    version: dict[str, str]
    verified: bool


def choose_starts(config: Config, environ: Mapping[str, str]) -> dict[str, Start]:
    """The models to start with, by stage. Nothing of them is left in this process, which may fork
    yet: a runtime's threads would stay behind.

    Raises:
        PillsnapError: no classifier is found, a variable is wrong, a model cannot run, or is not to
            be served by itself. Without a detector only mode single is served, unless the config's
            mode is combo.
    """
    reports, found = ReportIndex(config.out_dir / "reports"), {}
    for stage in (CLASSIFICATION, DETECTION):
        try:
            choice = choose_model(config, stage, environ)
        except MissingCheckpoint:
            if stage == CLASSIFICATION or config.pipeline.mode == "combo":
                raise
            log.warning("no detector is found: mode combo is not served")
            continue
        version, whole = prove_model(config, stage, choice.path)
        how = version["provider"], config.runtime
        standing = look_up(reports, stage, version["sha256"], *how)
        verified = standing.approved and whole
        if not (verified or choice.passed or config.serve.allow_unverified):
            raise EngineError(
                f"the gate has passed no {stage} export: the newest is not served by itself",
                where=choice.path,
                expected=f"latest_{stage}.onnx beside it, or a report that passed it",
                hint=f"run pytest -m smoke, name a model by {VARIABLES[stage]}, or set "
                "serve.allow_unverified",
            )
        if not verified:
            log.warning("the gate does not stand behind the %s model: %s", stage, standing.reason)
        found[stage] = Start(choice, version, verified)
    return found
