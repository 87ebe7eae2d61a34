"""What a layout is: how a file's outputs are told, and read as what is compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from numpy.typing import NDArray

from pillsnap.engines.protocol import Batch

Array = NDArray[Any]
Outputs = Mapping[str, Array]
"""Every output of a file for N images, by name, in the types of the file."""

Size = tuple[int, int]
"""Height and width of the images, in pixels."""

Compared = Literal["outputs", "probabilities", "boxes", "one-to-one"]
"""What a layout gives to compare: the network's own outputs; probabilities in place of logits;
boxes after an NMS inside; or those of a head that needs none."""


@dataclass(frozen=True)
class Expected:
    """What the outputs of a file are of.

    Attributes:
        classes: number of classes.
        size: of the images.
        boxes: of an image before NMS, one a cell of the reference's strides; None: not known.
        suppresses: whether an NMS is among the file's operators.
        one_to_one: whether it says that its head needs none.
    """

    classes: int
    size: Size
    boxes: int | None = None
    suppresses: bool = False
    one_to_one: bool = False


@dataclass(frozen=True)
class Layout:
    """One layout of a stage's files.

    Attributes:
        name: what `--layout` takes.
        stage: of the files.
        words: shape and meaning of the outputs, for messages.
        compared: what is compared of it.
        find: by their shapes, the outputs that may be of it: sets of names in the order of `read`.
        means: whether the values of such outputs can be what the layout says that they are.
        read: such outputs, and the size of the images, as candidates give them: float32 [N,C]
            logits (of probabilities their logarithms), or [N,A,6] boxes (x1,y1,x2,y2,score,
            class_id; input px).
        variants: ends of the names of layouts that lists leave out for this one; None for those.
    """

    name: str
    stage: str
    words: str
    compared: Compared
    find: Callable[[Outputs, Expected], list[tuple[str, ...]]]
    means: Callable[[Sequence[Array], Expected], bool]
    read: Callable[[Sequence[Array], Size], Batch]
    variants: str | None = ""


@dataclass(frozen=True)
class Reading:
    """A layout, and the outputs of one file that are read by it.

    Attributes:
        names: of the outputs.
    """

    layout: Layout
    names: tuple[str, ...]

    def read(self, outputs: Outputs, size: Size) -> Batch:
        """What candidates give, see Layout.read."""
        return self.layout.read([outputs[name] for name in self.names], size)


@runtime_checkable
class TakesLayouts(Protocol):
    """An engine whose file may be of any layout: until one is set it gives the first output."""

    def outputs(self, images: Batch) -> Outputs:
        """Every output for images [N,3,H,W], each repeated where the file takes more at once."""
        ...

    def read_by(self, reading: Reading) -> None:
        """Run the file so from now on."""
        ...


def each_output(
    fits: Callable[[tuple[int, ...], Expected], bool],
) -> Callable[[Outputs, Expected], list[tuple[str, ...]]]:
    """Layout.find of a layout of one output, by its shape."""
    return lambda outputs, expected: [
        (name,) for name, values in outputs.items() if fits(values.shape, expected)
    ]
