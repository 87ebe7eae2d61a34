"""Everything that decides what an exported file holds, and the metadata that says so."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from pillsnap.config.settings import Config
from pillsnap.core.hashes import TIMESTAMP_FORMAT, canonical_json, sha256_file, sha256_json
from pillsnap.engines import package_versions
from pillsnap.engines.torch import checkpoints
from pillsnap.engines.torch.checkpoints import NETWORKS, model_settings, stage_transform
from pillsnap.export.onnxfile import PREFIX
from pillsnap.export.provenance import describe_preprocess


@dataclass(frozen=True)
class Recipe:
    """What goes into an export, known before anything heavy is loaded.

    Attributes:
        facts: metadata by key, without what only tracing or the moment of export can tell.
        key: SHA-256 of all that can change the file, the version tag aside.
    """

    stage: str
    checkpoint: Path
    facts: dict[str, str]
    key: str

    def stamp(self, tag: str, traced: dict[str, str]) -> dict[str, str]:
        """The file's whole metadata for a version tag."""
        moment, git_sha = tag.rsplit("-", 1)
        when = datetime.strptime(moment, TIMESTAMP_FORMAT)
        entries = {
            **self.facts,
            **traced,
            "export_key": self.key,
            "version_tag": tag,
            "exported_at_utc": when.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "git_sha": git_sha,
        }
        return {PREFIX + key: value for key, value in sorted(entries.items())}


def read_recipe(config: Config, stage: str, checkpoint: Path) -> Recipe:
    """The recipe of a stage's export.

    Raises:
        PillsnapError: the checkpoint or the class map cannot be read.
        CheckpointError: timm does not know the backbone whose transform is wanted.
    """
    model = getattr(config, stage)
    export = config.export
    class_map = config.data.class_map
    facts = {
        "stage": stage,
        "checkpoint_sha256": sha256_file(checkpoint),
        "class_map_sha256": "" if class_map is None else sha256_file(class_map),
        "preprocess": describe_preprocess(stage_transform(config, stage)),
        "nms": canonical_json(asdict(config.nms)),
        "num_classes": str(model.num_classes),
        "input_shape": canonical_json(config.input_shape(stage)),
        "opset": str(export.opset),
        "exporter": export.exporter,
        "dynamic_axes": canonical_json(export.dynamic_axes),
        "versions": canonical_json(_versions(config, stage)),
    }
    key = sha256_json(
        {"facts": facts, "model": model_settings(config, stage), "sources": _sources()}
    )
    return Recipe(stage, checkpoint, facts, key)


def _versions(config: Config, stage: str) -> dict[str, str]:
    """Versions of what writes the file, read without importing it."""
    found = package_versions("onnx", "pillsnap", "torch", NETWORKS[stage].trainer(config))
    return {name: version or "unknown" for name, version in found.items()}


def _sources() -> list[str]:
    """Hashes of the code that writes the file: an edited exporter must not reuse old exports, nor
    may an edited reader of checkpoints."""
    readers = Path(checkpoints.__file__).parent
    files = [*Path(__file__).parent.glob("*.py"), *readers.rglob("*.py")]
    return [sha256_file(file) for file in sorted(files)]
