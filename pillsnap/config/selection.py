"""What the options of a run ask for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pillsnap.config.cells import STAGES


@dataclass(frozen=True)
class Selection:
    """What the options of a run ask for; the modes come from pytest's markers.

    Attributes:
        named: of the stages, those that an option names: they must be measured.
        int8_method: static, dynamic, auto or nncf; None leaves it to the configuration.
        layouts: of the candidates, by stage, where their files do not tell.
        budgets: the most that a figure of speed or memory may be, by its name.
        gate_strict: the sample must also certify the tolerances.
        reference_cache: whether what the reference answered may be remembered.
        sensitivity: find the layers to keep in float, of cells in lower precision; as `diagnose`.
        compare_calibration: with it, also what other ways to calibrate INT8 lose.
        diagnose: diagnose every cell, not only those that breach; changes nothing of the others, so
            it is not part of what identifies a run.
        save_reference: folder that inputs and reference outputs are written to, as a bundle.
        against: an earlier report, or a folder of them, to compare with; None compares with none.
        fail_on_regression: what got worse since then fails the run. Neither changes what is run.
        reference: a bundle to verify against in place of checkpoints and images.
    """

    stages: tuple[str, ...] = STAGES
    named: tuple[str, ...] = ()
    engines: tuple[str, ...] = ("onnx",)
    providers: tuple[str, ...] = ("auto",)
    precisions: tuple[str, ...] = ("fp32",)
    int8_method: str | None = None
    candidates: Mapping[str, Path] = field(default_factory=dict)
    layouts: Mapping[str, str] = field(default_factory=dict)
    budgets: Mapping[str, float] = field(default_factory=dict)
    fresh_export: bool = False
    gate_strict: bool = False
    reference_cache: bool = True
    diagnose: bool = field(default=False, repr=False)
    sensitivity: bool = field(default=False, repr=False)
    compare_calibration: bool = field(default=False, repr=False)
    against: Path | None = field(default=None, repr=False)
    fail_on_regression: bool = field(default=False, repr=False)
    save_reference: Path | None = None
    reference: Path | None = None
