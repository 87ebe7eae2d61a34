"""Models of ultralytics as its trainer pickles them, read without running what is in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from pillsnap.config.cells import CLASSIFICATION, DETECTION
from pillsnap.core.errors import CheckpointError
from pillsnap.core.printable import printable
from pillsnap.engines.torch.network import last_layer, require_known_layers, require_network
from pillsnap.engines.torch.statedict import wrong_entry
from pillsnap.engines.torch.torchfile.objects import StandIn
from pillsnap.engines.torch.torchfile.reading import read_checkpoint
from pillsnap.engines.torch.vocabulary import drop_text_encoder

_PLAIN = {DETECTION: "detector", CLASSIFICATION: "classifier"}


@dataclass(frozen=True)
class Kind:
    """Models of one task.

    Attributes:
        stage: which they are for.
        task: what ultralytics calls it.
        models: names of their classes in ultralytics.nn.tasks.
        heads: of their last layers, subclasses excluded: those do other tasks, or want prompts
            beside the image.
    """

    stage: str
    task: str
    models: tuple[str, ...]
    heads: tuple[str, ...]

    def require_head(self, model: Any, path: Path) -> Any:
        """The model's last layer; a CheckpointError for that of another task."""
        there: Any = import_module("ultralytics.nn.modules.head")
        head = model.model[-1]
        if type(head) not in tuple(getattr(there, name, None) for name in self.heads):
            raise self._other_task(path, f"last layer {type(head).__name__}")
        return head

    def read(self, chosen: str | None, path: Path) -> Pickled:
        """The model in a checkpoint: its EMA if there is one, unless config chooses an entry.

        Only layers of pillsnap's own list are made of it, without their constructors, whatever
        ultralytics' settings say; the file is opened for reading only.

        Raises:
            CheckpointError: unsafe, damaged or foreign file, or layers that are not known.
        """
        from pillsnap.engines.torch.torchfile.layers import network_layers

        content = read_checkpoint(
            path,
            network_layers(),
            f"a {_PLAIN[self.stage]} of own layers cannot be verified: train one of ultralytics' "
            "own, or take what is named out of the checkpoint where you trust it",
        )
        found = self._find(content, chosen, path)
        drop_text_encoder(found.model)
        require_network(found.model, path)
        require_known_layers(found.model, path)
        return found

    def _find(self, content: object, chosen: str | None, path: Path) -> Pickled:
        """The model under ema or model, or the whole content."""
        import torch

        layers: Any = import_module("ultralytics.nn.tasks")
        entries = content if isinstance(content, Mapping) else {"": content}
        if entries.get("modelopt") is not None:
            raise CheckpointError(
                "quantisation-aware checkpoints are not supported",
                where=path,
                got="a checkpoint with modelopt ranges",
                expected="the float model",
            )
        found = {k: entries[k] for k in ("ema", "model", "") if entries.get(k) is not None}
        kinds = tuple(getattr(layers, name, None) for name in self.models)
        models = [key for key, entry in found.items() if type(entry) in kinds]
        if chosen is not None and models and chosen not in models:
            setting = f"{self.stage}.checkpoint_entry"
            raise wrong_entry(chosen, [key for key in models if key], setting, path)
        if models:
            entry = chosen or models[0]
            return Pickled(content, found[entry], entry, tuple(key for key in models if key))
        for other in found.values():
            if isinstance(other, StandIn | torch.nn.Module):
                name = other.name if isinstance(other, StandIn) else type(other).__name__
                got = f"a {name}, last layer {last_layer(other)}"
                raise self._other_task(path, printable(got, 200))
        elsewhere = next(noun for stage, noun in _PLAIN.items() if stage != self.stage)
        raise CheckpointError(
            "the checkpoint holds no Ultralytics model",
            where=path,
            got="keys " + ", ".join(printable(key, 40) for key in list(entries)[:8]),
            expected="the .pt that ultralytics training saves, with the model under ema or model",
            hint="give the whole .pt that training saved; or is this the "
            f"{elsewhere}'s checkpoint?",
        )

    def _other_task(self, path: Path, got: str) -> CheckpointError:
        return CheckpointError(
            f"the checkpoint is not a YOLO {self.stage} model",
            where=path,
            got=got,
            expected=f"task {self.task}, last layer {' or '.join(self.heads)}",
            hint=f"train with task={self.task}, or give the checkpoint for {self.stage}",
        )


@dataclass(frozen=True)
class Pickled:
    """A model that was found in a checkpoint.

    Attributes:
        content: of the whole checkpoint.
        entry: the key that leads to the model; "" where it is the whole.
        entries: of all such models in it.
    """

    content: object
    model: Any
    entry: str
    entries: tuple[str, ...]


DETECTORS = Kind(
    DETECTION,
    "detect",
    ("DetectionModel", "RTDETRDetectionModel", "WorldModel"),
    ("Detect", "v10Detect", "RTDETRDecoder", "WorldDetect"),
)
CLASSIFIERS = Kind(CLASSIFICATION, "classify", ("ClassificationModel",), ("Classify",))
