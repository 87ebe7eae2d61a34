"""`pillsnap init`: a config.yaml out of what checkpoints and data say by themselves."""

from pillsnap.gate.init.main import main

__all__ = ["main"]
