"""What a run's outcomes depend on."""

from __future__ import annotations

from pillsnap.config.selection import Selection
from pillsnap.config.settings import Config, config_sha256
from pillsnap.core.hashes import code_sha256, sha256_file, sha256_json
from pillsnap.engines import package_versions
from pillsnap.engines.torch.checkpoints import checkpoint_paths


def run_key(
    config: Config, selection: Selection, *, markers: str, threads: int, shard_size: int
) -> str:
    """SHA-256 over configuration, options, models, versions and pillsnap's own code; the images
    are not part of it.

    Args:
        markers: pytest's -m.
        shard_size: samples of a shard, as the plan has rounded it.
    """
    models = {
        f"{stage} {path.name}": path
        for stage in selection.stages
        for path in checkpoint_paths(config, stage)
    }
    models |= {f"candidate {stage}": path for stage, path in selection.candidates.items()}
    return sha256_json(
        {
            "config": config_sha256(config),
            "shard_size": shard_size,
            "selection": repr(selection),
            "markers": markers,
            "threads": threads,
            "models": {k: sha256_file(v) for k, v in models.items() if v.is_file()},
            "versions": package_versions(),
            "code": code_sha256(),
        }
    )
