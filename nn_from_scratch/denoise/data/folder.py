"""Pictures from a folder of the user: found, examined, and split into training and validation by whole picture."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from nn_from_scratch.denoise.data.crops import CROP_SIZE, random_stream
from nn_from_scratch.denoise.data.pictures import picture_size, read_picture
from nn_from_scratch.denoise.formats import FORMAT_NAMES, SUFFIXES
from nn_from_scratch.errors import DataError

_NAMED_AT_MOST = 20
_TRAINING_PIXELS = 2_000_000_000  # decoding that many takes about a minute; thousands of large photographs have more


class PictureLog:
    """Reads the pictures of one folder and remembers which were skipped or converted, and why.

    Args:
        folder: the folder; pictures are named relative to it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._events: defaultdict[str, set[str]] = defaultdict(set)

    def note(self, event: str, path: Path, detail: str = "") -> None:
        """Remember that an event ("skipped, ...") befell the picture at a path."""
        self._events[event].add(path.relative_to(self.folder).as_posix() + detail)

    def read(self, path: Path) -> Tensor | None:
        """Read a picture as uint8 (3, H, W), or give None and remember why it cannot be read."""
        try:
            picture, conversions = read_picture(path)
        except DataError as error:
            self.note("skipped, unreadable", path, f" ({_reason(error, path)})")
            return None
        for conversion in conversions:
            self.note(conversion, path)
        return picture

    def notices(self) -> tuple[str, ...]:
        """Give one sentence for each event, naming the pictures (the first 20 and the number of the others)."""
        sentences = []
        for event, found in sorted(self._events.items()):
            names = sorted(found)
            more = f" and {len(names) - _NAMED_AT_MOST} more" if len(names) > _NAMED_AT_MOST else ""
            pictures = "1 picture" if len(names) == 1 else f"{len(names)} pictures"
            sentences.append(f"{pictures} {event}: {', '.join(names[:_NAMED_AT_MOST])}{more}")
        return tuple(sentences)

    def skipped(self) -> str:
        """Give the notices of skipped pictures, each after a semicolon, for the end of an error message."""
        return "".join(f"; {sentence}" for sentence in self.notices() if "skipped" in sentence)


def split_folder(folder: Path, log: PictureLog, *, seed: int, validation_at_most: int) -> tuple[list[Path], list[Path]]:
    """Find all pictures in a folder, also nested, and split them by whole picture.

    Names that begin with a dot are left alone. Pictures smaller than 32x32, unreadable ones and byte-identical copies
    are skipped. Of the training pictures only the headers are read here, so damage behind the header is found later.

    Args:
        log: remembers what was skipped.
        seed: decides the split, together with the names of the pictures, whatever order the file system has.
        validation_at_most: upper limit on the number of held-out pictures.

    Returns:
        The pictures for training, in the order in which crops are drawn from them; and those that are held out, one in
        ten and at least one, all of which can be read.

    Raises:
        DataError: the folder is missing, not a folder, cannot be listed, or has fewer than two usable pictures.
    """
    usable = _usable(_find(folder), log)
    order = torch.randperm(len(usable), generator=random_stream(seed, "held-out pictures")).tolist()
    wanted = min(max(1, len(usable) // 10), validation_at_most)
    training: list[Path] = []
    validation: list[Path] = []
    pixels = 0
    for path, size in (usable[number] for number in order):
        if len(validation) < wanted:
            if log.read(path) is not None:
                validation.append(path)
        elif pixels < _TRAINING_PIXELS:
            training.append(path)
            pixels += size
        else:
            log.note("left out, as the others suffice", path)
    if not training or not validation:
        raise too_few(log, readable=len(training) + len(validation))
    return training, validation


def too_few(log: PictureLog, *, readable: int) -> DataError:
    """Make the exception for a folder in which too few pictures are left, with what became of the others."""
    return DataError(
        f"data folder {str(log.folder)!r} has {readable or 'no'} usable picture{'' if readable == 1 else 's'}; at "
        f"least 2 different ones of {CROP_SIZE}x{CROP_SIZE} or more are needed, one of them for validation"
        f"{log.skipped()}"
    )


def _find(folder: Path) -> list[Path]:
    if not folder.exists():
        raise DataError(f"data folder {str(folder)!r} does not exist; give a folder of {FORMAT_NAMES} pictures")
    if not folder.is_dir():
        raise DataError(
            f"data folder {str(folder)!r} is not a folder; give a folder of {FORMAT_NAMES} pictures, or the course's "
            "files"
        )
    found = []
    for place, folders, files in os.walk(folder, onerror=_refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            Path(place, name)
            for name in files
            if name.lower().endswith(SUFFIXES) and not name.startswith(".") and Path(place, name).is_file()
        ]
    if not found:
        raise DataError(f"data folder {str(folder)!r} holds no {FORMAT_NAMES} pictures; give a folder that does")
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def _refuse(error: OSError) -> None:
    raise DataError(f"data folder {error.filename!r} cannot be listed ({error.strerror}); make it readable")


def _usable(paths: Sequence[Path], log: PictureLog) -> list[tuple[Path, int]]:
    """Give each usable picture with its number of pixels."""
    small = f"skipped, smaller than {CROP_SIZE}x{CROP_SIZE}"
    large_enough: dict[Path, int] = {}
    readable = 0
    for path in paths:
        try:
            H, W = picture_size(path)
        except DataError as error:
            log.note("skipped, unreadable", path, f" ({_reason(error, path)})")
            continue
        readable += 1
        if min(H, W) < CROP_SIZE:
            log.note(small, path, f" ({W}x{H})")
        else:
            large_enough[path] = H * W
    if not large_enough:
        if readable:
            raise DataError(
                f"data folder {str(log.folder)!r} holds no picture of {CROP_SIZE}x{CROP_SIZE} or more{log.skipped()}"
            )
        raise too_few(log, readable=0)
    return [(path, large_enough[path]) for path in _without_copies(list(large_enough), log)]


def _without_copies(paths: Sequence[Path], log: PictureLog) -> list[Path]:
    # A copy of a training picture among the held-out ones would make the validation dishonest.
    same_size: defaultdict[int, list[Path]] = defaultdict(list)
    for path in paths:
        same_size[path.stat().st_size].append(path)
    copies = set()
    for candidates in same_size.values():
        seen = set()
        for path in candidates if len(candidates) > 1 else ():
            digest = hashlib.sha256(path.read_bytes()).digest()
            if digest in seen:
                copies.add(path)
                log.note("skipped, copies of others", path)
            seen.add(digest)
    return [path for path in paths if path not in copies]


def _reason(error: DataError, path: Path) -> str:
    return str(error).removeprefix(f"picture {str(path)!r} ").removeprefix("is ")
