"""The formats of picture files: which are read, which are written, and what each can hold."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

#: The formats that are read, in Pillow's names, and the endings of their file names.
FORMATS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "PNG": (".png",),
        "JPEG": (".jpg", ".jpeg"),
        "WEBP": (".webp",),
        "BMP": (".bmp",),
        "TIFF": (".tif", ".tiff"),
    }
)
#: The same for a sentence.
FORMAT_NAMES = "PNG, JPEG, WebP, BMP or TIFF"
#: Those that can hold transparency.
TRANSPARENT = frozenset({"PNG", "WEBP", "TIFF"})
SUFFIXES = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)
#: What Pillow is told when it writes. 95 is the highest quality that its documentation recommends for JPEG.
ENCODING: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {"JPEG": {"quality": 95}, "WEBP": {"lossless": True}, "TIFF": {"compression": "tiff_lzw"}}
)


def format_of(path: Path) -> str | None:
    """The format that a file's name stands for, by its ending; None for another ending, or none."""
    ending = path.suffix.lower()
    return next((name for name, suffixes in FORMATS.items() if ending in suffixes), None)
