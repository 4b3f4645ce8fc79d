"""The built-in photographs: those colour photographs that scikit-image's wheel brings along, so nothing is downloaded.

Held out for validation, as whole pictures, are a portrait (`astronaut`), an animal (`chelsea`, a cat) and an outdoor
scene (`rocket`, a launch pad at dusk). They are the usual subjects of photographs and of different difficulty: a
portrait full of sharp edges and lettering, which is harder than the average of all pictures, fur against a soft
background, and a smooth sky behind thin steel towers. Training has the others: a still life, both views of one garage
scene (which must therefore stay on one side) and three scientific photographs. Pictures that are drawn, computed or
grey are left out; adding the grey ones to the training was tried and did not help.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from nn_from_scratch.errors import DataError

__all__ = ["TRAINING_PHOTOGRAPHS", "VALIDATION_PHOTOGRAPHS", "photograph_paths"]

#: File names in scikit-image's data folder that training crops are cut from.
TRAINING_PHOTOGRAPHS = (
    "coffee.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "motorcycle_left.png",
    "motorcycle_right.png",
    "retina.jpg",
)

#: File names in scikit-image's data folder that are held out for validation.
VALIDATION_PHOTOGRAPHS = ("astronaut.png", "chelsea.png", "rocket.jpg")


def photograph_paths() -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """Find the built-in photographs, without importing scikit-image.

    Returns:
        The paths of the training photographs and of the validation photographs.

    Raises:
        DataError: scikit-image is not installed, or was installed without its pictures.
    """
    spec = importlib.util.find_spec("skimage")
    if spec is None or spec.origin is None:
        raise DataError("scikit-image is not installed; the built-in photographs are in its package")
    folder = Path(spec.origin).parent / "data"
    for name in TRAINING_PHOTOGRAPHS + VALIDATION_PHOTOGRAPHS:
        if not (folder / name).is_file():
            raise DataError(
                f"scikit-image was installed without its picture {str(folder / name)!r}; "
                "install it with pip, or give a data folder"
            )
    return tuple(folder / name for name in TRAINING_PHOTOGRAPHS), tuple(
        folder / name for name in VALIDATION_PHOTOGRAPHS
    )
