"""The course's own files: `train_data.pkl`, pairs (noisy, noisy), and `val_data.pkl`, pairs (noisy, clean).

Each is a pair of uint8 tensors (N, 3, 32, 32), written by `torch.save`. They are loaded as plain tensors only
(`weights_only=True`), so a file that would run code is refused and none of its code runs.
"""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import Tensor

from nn_from_scratch.denoise.data.crops import CROP_SIZE
from nn_from_scratch.errors import DataError

TRAIN_FILE = "train_data.pkl"
VALIDATION_FILE = "val_data.pkl"

_SHA256 = {
    TRAIN_FILE: "6a7915d6e2764b862409cf2bcb675b4ec7c4fa4435f1c18eba08441d270228aa",
    VALIDATION_FILE: "4ae7e2a4eb73a84878446e7bc0f4a55eb3f1e950de65ff838fef70ba73b96966",
}


def find_course_folder(path: Path) -> Path | None:
    """Give the folder of the course's files if `path` is that folder or one of the files, else None."""
    if path.name in _SHA256 and path.is_file():
        return path.parent
    return path if any((path / name).is_file() for name in _SHA256) else None


def load_course(folder: Path) -> tuple[list[Tensor], list[str]]:
    """Load both files.

    Returns:
        The halves of the training pairs, the noisy and the clean validation images, each uint8 (N, 3, 32, 32); and a
        notice for each file.

    Raises:
        DataError: a file is missing, damaged, would run code, or holds something other than a pair of images.
    """
    for name in _SHA256:
        if not (folder / name).is_file():
            raise DataError(
                f"data folder {str(folder)!r} has no {name!r}; the course's data is the two files "
                f"{TRAIN_FILE!r} and {VALIDATION_FILE!r}"
            )
    tensors = [tensor for name in _SHA256 for tensor in load_pair_file(folder / name)]
    return tensors, [_identity(folder / name) for name in _SHA256]


def load_pair_file(path: Path) -> tuple[Tensor, Tensor]:
    """Load one file: a tuple or list of two uint8 tensors of one shape (N, 3, 32, 32).

    Raises:
        DataError: the file is damaged, would run code, or holds something else.
    """
    try:
        with warnings.catch_warnings():
            # Torch warns of pickle protocols that it does not write; such a file is refused below anyway.
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except UnpicklingError:
        raise DataError(
            f"data file {str(path)!r} was refused: it holds something other than plain tensors, and loading it could "
            "run code; a pair of uint8 tensors written by torch.save is expected"
        ) from None
    except Exception as error:  # a damaged file makes torch.load raise nearly anything
        raise DataError(
            f"data file {str(path)!r} is truncated, damaged or not written by torch.save; it cannot be read"
        ) from error
    wanted = f"a pair of uint8 tensors (N, 3, {CROP_SIZE}, {CROP_SIZE}) is expected"
    if not isinstance(content, (tuple, list)) or len(content) != 2:
        length = f" of {len(content)}" if isinstance(content, (tuple, list)) else ""
        raise DataError(f"data file {str(path)!r} holds a {type(content).__name__}{length}, but {wanted}")
    for tensor in content:
        if type(tensor) is not Tensor or tensor.layout != torch.strided or tensor.device.type != "cpu":
            raise DataError(f"data file {str(path)!r} holds a pair with a {_kind(tensor)} in it, but {wanted}")
        if tensor.dtype != torch.uint8:
            raise DataError(f"data file {str(path)!r} holds a tensor of dtype {tensor.dtype}, but {wanted}")
        if tensor.dim() != 4 or tensor.shape[0] == 0 or tensor.shape[1:] != (3, CROP_SIZE, CROP_SIZE):
            raise DataError(
                f"data file {str(path)!r} holds a tensor of shape {tuple(tensor.shape)}, but {wanted}, N > 0"
            )
    first, second = content
    if first.shape != second.shape:
        raise DataError(
            f"data file {str(path)!r} holds a pair of {len(first)} and {len(second)} images, "
            "but equally many of both are expected"
        )
    return first.contiguous(), second.contiguous()


def _kind(thing: object) -> str:
    if type(thing) is Tensor:
        return f"tensor of layout {thing.layout} on {thing.device}"
    return type(thing).__name__


def _identity(path: Path) -> str:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest == _SHA256[path.name]:
        return f"{path.name} is the course's own file: its SHA-256 is the known one"
    return f"{path.name} is not the course's own file: its SHA-256 is {digest}, the known one is {_SHA256[path.name]}"
