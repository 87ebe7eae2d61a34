"""Class index -> mapping code -> edi_code, and why there is none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class ClassCodes:
    """What a class is called.

    Attributes:
        codes: mapping code by class index; None without a class_map.
        edi: edi_code by mapping code; None without an edi_map.
    """

    codes: Mapping[int, str] | None = None
    edi: Mapping[str, str] | None = None

    def describe(self, index: int) -> dict[str, str | None]:
        """code and edi_code of a class; edi_reason says why edi_code is null, else it is null."""
        code = (self.codes or {}).get(index)
        edi_code = None if code is None else (self.edi or {}).get(code)
        return {"code": code, "edi_code": edi_code, "edi_reason": self._reason(index, code)}

    def _reason(self, index: int, code: str | None) -> str | None:
        if self.codes is None:
            return "no class_map is configured"
        if code is None:
            return f"class_map has no code for class {index}"
        if self.edi is None:
            return "no edi_map is configured"
        return None if code in self.edi else f"edi_map has no entry for {code}"
