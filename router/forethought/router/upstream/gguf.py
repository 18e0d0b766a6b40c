"""What can be said about a GGUF weights file before anything loads it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from forethought.router.errors import WeightsError

MAGIC: Final = b"GGUF"
SMALLEST_BYTES: Final = 1024
"""Header, metadata and one tensor do not fit into less."""


def check_gguf(path: Path) -> None:
    """Raise ``WeightsError`` where ``path`` is certainly not a whole GGUF file."""
    remedy = "Name a .gguf file, or fetch a model: forethought models fetch NAME."
    try:
        with path.open("rb") as file:
            magic = file.read(len(MAGIC))
        size = path.stat().st_size
    except OSError as error:
        message = f"The weights file {path} cannot be read ({error.strerror})."
        raise WeightsError(message, param=str(path), remedy=remedy) from error
    if magic != MAGIC:
        message = f"The weights file {path} is not a GGUF file (it starts with {magic!r})."
        raise WeightsError(message, param=str(path), remedy=remedy)
    if size < SMALLEST_BYTES:
        message = f"The weights file {path} is cut short ({size} bytes)."
        raise WeightsError(message, param=str(path), remedy=remedy)
