"""Which ONNX Runtime reads a file: a matter of its opset and of its IR version."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

# Releases that came to read more: the highest opset and IR version of each. From docs/Versioning.md
# of ONNX Runtime and, from 1.15 on, from what they load; earlier ones than 1.6 count as that.
_RELEASES = (
    ("1.6", 13, 7),
    ("1.8", 14, 7),
    ("1.9", 15, 8),
    ("1.11", 16, 8),
    ("1.12", 17, 8),
    ("1.14", 18, 8),
    ("1.15", 19, 9),
    ("1.17", 20, 9),
    ("1.18", 21, 10),
    ("1.21", 22, 10),
    ("1.23", 23, 11),
    ("1.24", 25, 13),
)


def least_runtime(opset: int, ir_version: int) -> str | None:
    """The first release of ONNX Runtime that reads such a file; None where none is known to."""
    return next(
        (name for name, most, ir in _RELEASES if opset <= most and ir_version <= ir),
        None,
    )


def lower_ir_version(model: onnx.ModelProto) -> None:
    """Give a model the IR version that its opset came with: exporters write their library's own,
    and runtimes refuse a file for that alone. Nothing that pillsnap writes needs a later one."""
    from onnx import helper

    least = helper.find_min_ir_version_for(model.opset_import, ignore_unknown=True)
    model.ir_version = min(model.ir_version, least)
