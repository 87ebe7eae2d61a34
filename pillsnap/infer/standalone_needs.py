"""What pillsnap_pipeline.py needs, looked at before the rest of it is read.

An older Python must be able to read this far: to parse the whole file, and to run this part.
"""

from __future__ import annotations

import importlib
import re
import sys

# By module, what it is called and its oldest version that will do; models may want a newer runtime.
NEEDED = {
    "sys": ("Python", "3.10"),
    "numpy": ("numpy", "1.21"),
    "PIL": ("Pillow", "9.1"),
    "cv2": ("OpenCV", "4.5"),
    "onnxruntime": ("ONNX Runtime", "1.6"),
}


def require_versions(needed: dict[str, tuple[str, str]], as_script: bool) -> None:
    """Where something is missing or too old end the process with a message, or raise ImportError
    if this was not started as a script; `needed` is as NEEDED."""
    for module, (name, least) in needed.items():
        try:
            imported = importlib.import_module(module)
        except ImportError as error:
            problem = f"which cannot be imported: {error}"
        else:
            found = imported.version if module == "sys" else imported.__version__
            if numbers_of(found) >= numbers_of(least):
                continue
            problem = f"this is {found.split()[0]}"
        text = f"pillsnap_pipeline.py needs {name} {least} or newer, {problem}"
        if not as_script:
            raise ImportError(text)
        print(f"error: {text}", file=sys.stderr)
        sys.exit(2)


def numbers_of(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)[:2]]
