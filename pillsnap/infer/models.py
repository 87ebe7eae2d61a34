"""Models opened for use: the same sessions, preprocessing and NMS as the gate's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

from pillsnap.config.cells import CLASSIFICATION
from pillsnap.config.settings import Config
from pillsnap.core.errors import EngineError
from pillsnap.core.hashes import sha256_file
from pillsnap.core.logrecords import open_log
from pillsnap.core.modelfiles import IR
from pillsnap.core.printable import printable
from pillsnap.data.maps import read_class_map, read_edi_map, without_code
from pillsnap.engines import Batch, Entry, entries, find_entry
from pillsnap.engines.torch.checkpoints import build_model, checkpoint_paths, stage_transform
from pillsnap.engines.torch.safe_load import checkpoint_stage
from pillsnap.export import Exported, describe_model, stage_of_model
from pillsnap.export.forms import FORMS
from pillsnap.export.onnxfile import PREFIX
from pillsnap.export.provenance import expected_use, has_claims
from pillsnap.export.quantize import describe_quantized
from pillsnap.infer.choice import engine_of
from pillsnap.infer.foreign import read_foreign
from pillsnap.pipeline.codes import ClassCodes
from pillsnap.pipeline.nms import suppress_boxes, take_boxes
from pillsnap.pipeline.twostage import Pipeline, Stage

log = open_log(__name__)


@dataclass(frozen=True)
class Opened:
    """A model that runs.

    Attributes:
        run: [N,3,H,W] -> its output, see Stage.
        version: version tag (of a checkpoint its file's name), SHA-256, engine, and the provider
            that it really runs on: ONNX Runtime's name of it, or torch:<device>.
        weights: SHA-256 of the files beside it that hold weights, by name.
        final_above: see Foreign; None of pillsnap's own files.
    """

    run: Callable[[Batch], Batch]
    version: dict[str, str]
    weights: Mapping[str, str] = field(default_factory=dict)
    final_above: float | None = None

    @property
    def whole(self) -> bool:
        """Whether the SHA-256 covers all weights: none lie in other files."""
        return not self.weights


def model_stage(path: Path, config: Config) -> str:
    """What a model is for, of which nothing is run: detection or classification; raises EngineError
    or CheckpointError where it is none, or for neither."""
    if not find_entry(engine_of(path, config)).takes_exports:
        return checkpoint_stage(path)
    stage = stage_of_model(path)
    if stage == "neither":
        describe_model(path, CLASSIFICATION)  # says what is wrong with it
    return stage


def open_model(
    config: Config,
    stage: str,
    path: Path,
    *,
    provider: str,
    threads: int,
    engine: str,
    sha256: str | None = None,
) -> Opened:
    """Load a stage's model and check that it was made for this configuration.

    Args:
        provider: one of the engine's; torch takes cuda, else runs on the CPU.
        engine: its name; one that takes no exports takes checkpoints.
        sha256: of the only content that may be loaded; any by default.

    Raises:
        PillsnapError: not a model of this stage, made for another preprocessing or class map, or it
            cannot run as asked.
    """
    entry = find_entry(engine)
    if not entry.takes_exports:
        _require_content(path, sha256, sha256 and sha256_file(path))
        return _open_torch(config, stage, path, provider, threads)
    _require_opens(entry, path, provider)
    described = describe_model(path, stage)
    _require_content(path, sha256, described.sha256)
    require_same_settings(config, stage, described)
    precision = (describe_quantized(described) or {}).get("precision", "fp32")
    assert entry.use is not None
    opened = entry.use(described, precision, provider, threads, config)
    own = has_claims(described)
    foreign = None if own else read_foreign(config, stage, described, opened)
    return Opened(
        partial(_run_checked, opened.run, config, stage, path, foreign=not own),
        {
            "version": printable(described.version_tag or path.stem, 100),
            "sha256": described.sha256,
            "engine": entry.name,
            "provider": opened.info["providers"][0],
        },
        weights=described.weights,
        final_above=None if foreign is None else foreign.final_above,
    )


def _require_opens(entry: Entry, path: Path, provider: str) -> None:
    """Refuse, by an EngineError, a file or a provider that an engine does not run after the gate;
    by what it raises, an engine that is not here."""
    if entry.use is None or (path.suffix == IR and IR not in entry.suffixes):
        raise EngineError(
            f"engine {entry.name} does not run this file",
            where=path,
            expected=", ".join(each.name for each in entries() if path.suffix in each.suffixes),
        )
    if provider not in entry.providers:
        raise EngineError(
            f"engine {entry.name} does not run on provider {provider}",
            where=path,
            expected=", ".join(entry.providers),
        )
    entry.require()


def _run_checked(
    run: Callable[[Batch], Batch],
    config: Config,
    stage: str,
    path: Path,
    batch: Batch,
    *,
    foreign: bool,
) -> Batch:
    """What `run` gives, refused where it is not what the stage's post-processing reads: a file with
    free axes does not say so before, and the columns of one made elsewhere may mean anything."""
    output = run(batch)
    classes = getattr(config, stage).num_classes
    hint = "give the .pt, or an .onnx that pillsnap exported for this configuration"
    form = FORMS[stage]
    if not form.fits(output.shape, len(batch), classes):
        raise EngineError(
            f"the {stage} model does not fit the configuration",
            where=path,
            got=f"output {list(output.shape)}",
            expected=form.expected(len(batch), classes),
            hint=hint,
        )
    if foreign and not form.means(output, classes):
        raise EngineError(
            f"the {stage} model's columns are not box, score and class",
            where=path,
            expected=f"x1, y1, x2, y2, a score of 0 to 1, a class below {classes}",
            hint=hint,
        )
    return output


def make_pipeline(config: Config, models: Mapping[str, Opened], batch_size: int) -> Pipeline:
    """The pipeline over opened models, by stage, with the config's preprocessing, NMS, margin and
    maps; errors are read_codes'."""
    codes = read_codes(config)
    if CLASSIFICATION in models and codes.codes is not None:
        told = without_code(codes.codes, config.classification.num_classes)
        if told is not None:
            log.warning("%s", told)
    stages = {
        stage: Stage(model.run, stage_transform(config, stage), model.version)
        for stage, model in models.items()
    }
    final = next((m.final_above for m in models.values() if m.final_above is not None), None)
    return Pipeline(
        stages=stages,
        codes=codes,
        suppress=partial(suppress_boxes, **asdict(config.nms))
        if final is None
        else partial(take_boxes, above=final),
        crop_margin=config.pipeline.crop_margin,
        batch_size=batch_size,
    )


def read_codes(config: Config) -> ClassCodes:
    """The config's maps; raises DataError where one cannot be read."""
    data, count = config.data, config.classification.num_classes
    codes = None if data.class_map is None else read_class_map(data.class_map, count)
    edi = None if data.edi_map is None else read_edi_map(data.edi_map)
    return ClassCodes(None if codes is None else {i: code for code, i in codes.items()}, edi)


def _open_torch(config: Config, stage: str, path: Path, provider: str, threads: int) -> Opened:
    from pillsnap.engines.torch.model import TorchEngine

    device = "cuda" if provider == "cuda" else "cpu"
    model = build_model(config, stage, path)
    engine = TorchEngine(lambda: model, {}, device=device, threads=threads)

    def run(batch: Batch) -> Batch:
        return engine.run(batch)[..., : FORMS[stage].columns]

    facts = {"version": printable(path.stem, 100), "sha256": sha256_file(path)}
    return Opened(run, {**facts, "engine": "torch", "provider": f"torch:{device}"})


def require_same_settings(config: Config, stage: str, described: Exported) -> None:
    """Refuse an export made for another preprocessing or class map, and log a warning of one made
    from another checkpoint than lies here; foreign files say nothing."""
    for key, value in expected_use(config, stage).items():
        found = described.metadata.get(PREFIX + key)
        if found and found != value:
            raise EngineError(
                f"the {stage} model was exported for another {key.removesuffix('_sha256')}",
                where=described.path,
                got=found,
                expected=value,
                hint="export it again with this config, or take the config it was exported with",
            )
    trained, wanted = checkpoint_paths(config, stage)[0], described.checkpoint_sha256
    if wanted and trained.is_file() and sha256_file(trained) != wanted:
        log.warning("%s: %s is of another checkpoint than %s", stage, described.path, trained)


def _require_content(path: Path, wanted: str | None, found: str | None) -> None:
    if wanted not in (None, found):
        raise EngineError("the model changed while it was loaded", where=path)
