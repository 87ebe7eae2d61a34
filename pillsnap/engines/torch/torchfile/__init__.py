"""Files that torch.save wrote, read by an unpickler of our own: what stands in them is data."""

from __future__ import annotations

from pillsnap.engines.torch.torchfile.container import require_container
from pillsnap.engines.torch.torchfile.objects import StandIn, entries_of
from pillsnap.engines.torch.torchfile.reading import pickled_names, read_checkpoint
from pillsnap.engines.torch.torchfile.unreadable import Unreadable

__all__ = [
    "StandIn",
    "Unreadable",
    "entries_of",
    "pickled_names",
    "read_checkpoint",
    "require_container",
]
