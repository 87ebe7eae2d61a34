"""What a restart would serve, as it would be chosen now."""

from __future__ import annotations

from pathlib import Path

import pytest

from pillsnap.config.load import load_config
from pillsnap.config.settings import Config
from pillsnap.serve.restart import describe_restart

OLD, NEW = (f"classification-2025010{day}-000000-nogit.onnx" for day in "12")


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """A project with two exports, the newer of which has passed."""
    (tmp_path / "config.yaml").write_text("paths: {exp_dir: exp}")
    config = load_config(tmp_path / "config.yaml", {})
    config.out_dir.mkdir(parents=True)
    for name in (OLD, NEW):
        (config.out_dir / name).touch()
    (config.out_dir / "latest_classification.onnx").symlink_to(NEW)
    return config


def ask(config: Config, served: str, **environ: str) -> tuple[str | None, str, str | None]:
    """File, reason, and what makes the one that serves last."""
    found = describe_restart(config, "classification", config.out_dir / served, environ)
    assert found["same"] == ("to_keep" not in found)
    return found["file"], found["reason"], found.get("to_keep")


def test_what_latest_leads_to(config: Config) -> None:
    reason = "latest_classification.onnx of export.out_dir"
    assert ask(config, NEW) == (NEW, reason, None)
    file, why, to_keep = ask(config, OLD)
    assert (file, why) == (NEW, reason)
    assert to_keep is not None
    assert to_keep.startswith(f"set CLASSIFICATION_MODEL_PATH to {OLD}")
    assert "let latest_classification.onnx lead to it" in to_keep
    # What it says makes it last does so.
    assert ask(config, OLD, CLASSIFICATION_MODEL_PATH=f"exp/export/{OLD}")[2] is None
    (config.source.parent / ".env").write_text(f"CLASSIFICATION_MODEL_PATH=exp/export/{OLD}")
    assert ask(config, OLD, MODEL_PATH=f"exp/export/{NEW}")[2] is None
    (config.source.parent / ".env").unlink()
    latest = config.out_dir / "latest_classification.onnx"
    latest.unlink()
    latest.symlink_to(OLD)
    assert ask(config, OLD)[2] is None


def test_what_a_variable_names(config: Config) -> None:
    (config.source.parent / ".env").write_text(f"MODEL_PATH='exp/export/{OLD}'\n")
    assert ask(config, OLD) == (OLD, "MODEL_PATH is set", None)
    assert ask(config, NEW)[:2] == (OLD, "MODEL_PATH is set")


def test_a_restart_that_would_fail(config: Config) -> None:
    file, reason, to_keep = ask(config, NEW, MODEL_PATH="gone.onnx")
    assert (file, to_keep is None) == (None, False)
    assert reason.startswith("it would not start: MODEL_PATH names no model")
    (config.source.parent / ".env").write_text("MODEL_PATH='secret")
    assert ask(config, NEW)[1].startswith("it would not start: this value's quotes are broken")
    (config.source.parent / ".env").unlink()
    for path in config.out_dir.iterdir():
        path.unlink()
    assert ask(config, NEW)[:2] == (None, "no model is found")
