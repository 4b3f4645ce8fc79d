"""Writing a picture as a PNG file; reading is in `nn_from_scratch.denoise.data.pictures`."""

from __future__ import annotations

import io
from pathlib import Path

from torch import Tensor

from nn_from_scratch.storage import write_atomically

__all__ = ["write_png"]


def write_png(path: Path, picture: Tensor) -> None:
    """Write a picture atomically.

    Args:
        path: the file; an existing one is replaced.
        picture: uint8 (3, H, W), values 0 to 255.

    Raises:
        OSError: it cannot be written; an older file is unharmed.
    """
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture.permute(1, 2, 0).contiguous().cpu().numpy()).save(buffer, format="PNG")
    write_atomically(path, buffer.getvalue())
