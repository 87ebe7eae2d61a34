"""What is diagnosed: both sides of a cell, step by step, and a few of its samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pillsnap.compare.tasks import Finish, task_of
from pillsnap.config.cells import Cell
from pillsnap.config.runtime import Runtime
from pillsnap.config.settings import Config
from pillsnap.engines import Batch, Transform
from pillsnap.engines.onnxruntime.providers import CPU, select_onnx_providers
from pillsnap.engines.onnxruntime.sessions import open_session
from pillsnap.engines.torch.checkpoints import NETWORKS, build_model, find_best_checkpoint
from pillsnap.pipeline.batches import fixed_batch_size, in_fixed_batches
from pillsnap.pipeline.preprocess import Pixels, Tensor, preprocess

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Side:
    """One side's way from images to results.

    Attributes:
        prepare: an RGB image, uint8 [H,W,3], to the network's input, float32 [3,H,W].
        network: float32 [N,3,H,W] to [N,classes] logits or [N,boxes,6] rows.
        finish: the network's answer to a result an image: probabilities [classes], or the boxes
            [k,6] that are left, in input pixels.
    """

    prepare: Callable[[Pixels], Tensor]
    network: Callable[[Batch], Batch]
    finish: Finish

    def batch(self, images: Sequence[Pixels]) -> Batch:
        """The network's input, float32 [N,3,H,W], for images uint8 [H,W,3]."""
        return np.stack([self.prepare(image) for image in images])

    def answer(self, images: Sequence[Pixels]) -> Batch:
        """The network's output, float32 [N,classes] or [N,boxes,6], for images uint8 [H,W,3]."""
        return self.network(self.batch(images))


@dataclass(frozen=True)
class Subject:
    """A cell to diagnose. Both sides may be replaced, step by step.

    Attributes:
        model: the candidate's file.
        opened: the file by itself, as the cell asks for it; the candidate's network, unless that
            was replaced.
        provider: what runs it: the cell's, or cpu where `auto` fell back.
    """

    config: Config
    cell: Cell
    model: Path
    ids: tuple[str, ...]
    images: tuple[Pixels, ...]
    transform: Transform
    reference: Side
    candidate: Side
    opened: Callable[[Batch], Batch]
    provider: str
    threads: int

    @property
    def stage(self) -> str:
        return self.cell.stage

    def open(
        self,
        model: Path | bytes,
        *,
        precision: str | None = None,
        provider: str | None = None,
        threads: int | None = None,
        runtime: Runtime | None = None,
    ) -> Callable[[Batch], Batch]:
        """A file or its content as a network, opened as the cell's is but for what is given;
        EngineError where it cannot be, and from the function where it refuses the images."""
        return _open_network(
            model,
            provider or self.provider,
            threads or self.threads,
            runtime or self.config.session_options,
            precision or self.cell.precision,
        )

    def load_network(self) -> torch.nn.Module:
        """The trained network as exporters see it; raises CheckpointError."""
        checkpoint = find_best_checkpoint(self.config, self.stage)
        module: Any = build_model(self.config, self.stage, checkpoint).module
        return NETWORKS[self.stage].unwrap(module)


def make_subject(
    config: Config,
    cell: Cell,
    model: Path,
    samples: Sequence[tuple[str, Pixels]],
    *,
    transform: Transform,
    reference: Callable[[Batch], Batch],
    threads: int,
) -> Subject:
    """A subject whose candidate is a file, opened as its cell asks for; EngineError where it cannot
    be opened so."""
    provider = cell.provider
    if provider == "auto" and select_onnx_providers(provider)[0] == CPU:
        provider = "cpu"
    network = _open_network(model, provider, threads, config.session_options, cell.precision)
    finish = task_of(cell.stage).finishing.make(config.nms)
    prepare = partial(preprocess, transform=transform)
    return Subject(
        config=config,
        cell=cell,
        model=model,
        ids=tuple(name for name, _ in samples),
        images=tuple(image for _, image in samples),
        transform=transform,
        reference=Side(prepare, reference, finish),
        candidate=Side(prepare, network, finish),
        opened=network,
        provider=provider,
        threads=threads,
    )


def _open_network(
    model: Path | bytes, provider: str, threads: int, runtime: Runtime, precision: str
) -> Callable[[Batch], Batch]:
    """What `open_session` opens, as a side's network; one of a fixed batch size is filled up."""
    session = open_session(model, provider, threads, runtime, precision)
    return in_fixed_batches(fixed_batch_size(session.ort), session.run)
