"""What is known of a trained model beside its outputs, as the cache keeps it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter

from pillsnap.engines.torch.safe_load import LoadedModel, Origin

Stored = NDArray[Any]
"""uint8 [bytes]: a Description as JSON."""


@dataclass(frozen=True)
class Description:
    """A trained model beside its outputs; LoadedModel says what the attributes are."""

    params_million: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    recorded: Annotated[float, Field(ge=0, le=1)] | None
    strides: tuple[Annotated[int, Field(ge=1)], ...]
    class_names: tuple[str, ...]
    origin: Origin


_DESCRIPTION = TypeAdapter(Description)


def describe(loaded: LoadedModel, params_million: float) -> Stored:
    """A model's description as it is stored."""
    about = Description(
        params_million, loaded.recorded, loaded.strides, loaded.class_names, loaded.origin
    )
    return np.frombuffer(_DESCRIPTION.dump_json(about), np.uint8)


def read_description(stored: Stored) -> Description:
    """What `describe` has stored; raises ValueError for anything else."""
    return _DESCRIPTION.validate_json(stored.tobytes())


def is_description(stored: Stored) -> bool:
    """Whether an array out of the cache can be one."""
    try:
        read_description(stored)
    except ValueError:
        return False
    return True
