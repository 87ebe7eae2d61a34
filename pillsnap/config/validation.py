"""data.val of config.yaml: where validation images and their labels are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from pillsnap.config.fields import STRICT, add_short_form


@dataclass(frozen=True, config=STRICT)
class Combo:
    """Scenes for the detector; a path in its place is its `images`."""

    SHORT: ClassVar[str] = "images"

    images: Path
    labels: Path | None = None
    single_cls: bool = False

    @property
    def is_data_yaml(self) -> bool:
        """Whether `images` is ultralytics' data.yaml, which says where the labels are."""
        return self.images.suffix in (".yaml", ".yml")

    @property
    def is_labelled(self) -> bool:
        return self.is_data_yaml or self.labels is not None


@dataclass(frozen=True, config=STRICT)
class Validation:
    single: Path | None = None
    combo: Annotated[Combo | None, Field(json_schema_extra=add_short_form)] = None
