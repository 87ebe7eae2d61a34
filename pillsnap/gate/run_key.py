"""What a run's outcomes depend on."""

from __future__ import annotations

from pillsnap.config.settings import config_sha256
from pillsnap.core.hashes import code_sha256, sha256_json
from pillsnap.core.modelfiles import sha256_model
from pillsnap.engines import package_versions
from pillsnap.engines.torch.checkpoints import checkpoint_paths
from pillsnap.gate.run import GateRun


def run_key(run: GateRun, markers: str) -> str:
    """SHA-256 over configuration, options (pytest's -m is `markers`), models, versions and
    pillsnap's own code; the images are not part of it. A run that was cut off is gone on with by
    one of the same key only."""
    config, selection = run.config, run.selection
    models = {
        f"{stage} {path.name}": path
        for stage in selection.stages
        for path in checkpoint_paths(config, stage)
    }
    models |= {f"candidate {stage}": path for stage, path in selection.candidates.items()}
    return sha256_json(
        {
            "config": config_sha256(config),
            "shard_size": run.plan.shard_size,
            "selection": repr(selection),
            "markers": markers,
            "threads": run.threads,
            "models": {k: sha256_model(v) for k, v in models.items() if v.is_file()},
            "versions": package_versions(),
            "code": code_sha256(),
        }
    )
