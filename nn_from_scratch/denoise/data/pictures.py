"""Picture files: of any mode read as 8-bit RGB, with or without transparency, and written; the built-in photographs.

Axes: C = 3 channels, H height, W width. Values are uint8, 0 to 255.

The built-in photographs are the color photographs in scikit-image's wheel, so nothing is downloaded. Held out for
validation, as whole pictures, are a portrait (`astronaut`), an animal (`chelsea`, a cat) and an outdoor scene
(`rocket`, a launch pad at dusk): the usual subjects of photographs, and of different difficulty. Training has the
others: a still life, both views of one garage scene (which must therefore stay on one side) and three scientific
photographs. Pictures that are drawn, computed or gray are left out; adding the gray ones was tried and did not help.
"""

from __future__ import annotations

import importlib.util
import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from nn_from_scratch.denoise.formats import ENCODING, FORMAT_NAMES, FORMATS, TRANSPARENT, format_of
from nn_from_scratch.errors import ArgumentError, DataError
from nn_from_scratch.storage import PICTURE_SOFTWARE, write_atomically

if TYPE_CHECKING:
    from PIL import Image


#: Pictures with more pixels are refused before they are decoded: a small file can hold a picture that fills the memory.
MAX_PIXELS = 100_000_000

#: File names in scikit-image's data folder that training crops are cut from.
TRAINING_PHOTOGRAPHS = (
    "coffee.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "motorcycle_left.png",
    "motorcycle_right.png",
    "retina.jpg",
)

#: File names there that are held out for validation.
VALIDATION_PHOTOGRAPHS = ("astronaut.png", "chelsea.png", "rocket.jpg")

_SOFTWARE = 0x0131  # the EXIF tag for the program that wrote a picture
_ORIENTATION = 0x0112  # the EXIF tag; 1 is upright, 2 to 8 are mirrored or turned

_CONVERSIONS = {
    "1": "black and white, given three equal channels",
    "L": "gray, given three equal channels",
    "LA": "gray with transparency, given three equal channels",
    "P": "with a palette, converted to RGB",
    "CMYK": "CMYK, converted to RGB",
}


def picture_size(path: Path) -> tuple[int, int]:
    """Read (height, width) from a picture's header, without decoding the picture.

    Raises:
        DataError: the file is not a readable picture, or has more than `MAX_PIXELS` pixels.
    """
    with warnings.catch_warnings():
        # Pillow warns of odd metadata, which harms no pixel, and of large pictures, which are refused below.
        warnings.simplefilter("ignore")
        with _open(path) as image:
            return image.height, image.width


def read_picture(path: Path) -> tuple[Tensor, tuple[str, ...]]:
    """Read a picture of any mode as 8-bit RGB, turned upright as its EXIF orientation says.

    Transparency is laid on white.

    Returns:
        The picture, uint8 (3, H, W), and what had to be converted, each in a few words (empty for 8-bit RGB).

    Raises:
        DataError: the file is not a readable picture, is damaged, or has more than `MAX_PIXELS` pixels.
    """
    picture, alpha, conversions = read_layers(path)
    if alpha is not None:
        picture, conversions = laid_on_white(picture, alpha), (*conversions, "with transparency, laid on white")
    return picture, conversions


def read_layers(path: Path) -> tuple[Tensor, Tensor | None, tuple[str, ...]]:
    """Read the colors and the transparency of a picture of any mode, turned upright as its EXIF orientation says.

    Returns:
        The colors, uint8 (3, H, W); how opaque each pixel is, uint8 (H, W), or None where the picture has no
        transparency; and what had to be converted, each in a few words (empty for 8-bit RGB).

    Raises:
        DataError: the file is not a readable picture, is damaged, or has more than `MAX_PIXELS` pixels.
    """
    from PIL import ImageOps

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with _open(path) as image:
            try:
                if image.format == "PNG":
                    _verify_checksums(path)
                image.load()
                upright = ImageOps.exif_transpose(image)
                layers, conversions = _converted(upright, deep=_has_16_bits(path))
                turned = image.getexif().get(_ORIENTATION) in range(2, 9)
            except MemoryError:
                raise
            except Exception as error:  # a damaged file makes the decoders raise nearly anything
                raise DataError(f"picture {str(path)!r} is damaged or truncated ({_first_line(error)})") from error
            if turned:
                conversions = (*conversions, "turned upright by its EXIF orientation")
    pixels = torch.from_numpy(np.array(layers)).permute(2, 0, 1)  # (3 or 4, H, W)
    return pixels[:3].contiguous(), pixels[3].contiguous() if len(pixels) == 4 else None, conversions


def laid_on_white(picture: Tensor, alpha: Tensor) -> Tensor:
    """Colors uint8 (3, H, W), opaque as uint8 (H, W) says, in front of white: uint8 (3, H, W)."""
    share = alpha.double() / 255
    return (picture * share + 255 * (1 - share)).round().to(torch.uint8)


def write_picture(path: Path, picture: Tensor, alpha: Tensor | None = None) -> None:
    """Write a picture atomically, in the format that its name stands for.

    Args:
        path: the file, with an ending of `formats.FORMATS`; an existing one is replaced.
        picture: uint8 (3, H, W).
        alpha: how opaque each pixel is, uint8 (H, W), for a format of `formats.TRANSPARENT`.

    Raises:
        ArgumentError: the ending is another one, or the format has no transparency.
        OSError: it cannot be written; an older file is unharmed.
    """
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    kind = format_of(path)
    if kind is None:
        raise ArgumentError(f"path is {str(path)!r}, but a name that ends as {FORMAT_NAMES} is expected")
    if alpha is not None and kind not in TRANSPARENT:
        raise ArgumentError(f"alpha is given for {str(path)!r}, but {kind} has no transparency")
    layers = picture if alpha is None else torch.cat([picture, alpha[None].to(picture.device)])
    image = Image.fromarray(layers.permute(1, 2, 0).contiguous().cpu().numpy())  # (H, W, 3 or 4)
    # By which a later run knows its own result. (A BMP file has no room for it, and is never replaced.)
    marks: dict[str, Any] = {}
    if kind == "PNG":
        marks["pnginfo"] = PngInfo()
        marks["pnginfo"].add_text("Software", "nn-from-scratch")
    elif kind != "BMP":
        marks["exif"] = Image.Exif()
        marks["exif"][_SOFTWARE] = PICTURE_SOFTWARE
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **ENCODING.get(kind, {}), **marks)
    write_atomically(path, buffer.getvalue())


def photograph_paths() -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """Find the built-in photographs for training and for validation, without importing scikit-image.

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
    training, validation = (
        tuple(folder / name for name in names) for names in (TRAINING_PHOTOGRAPHS, VALIDATION_PHOTOGRAPHS)
    )
    return training, validation


def _open(path: Path) -> Image.Image:
    from PIL import Image, UnidentifiedImageError

    try:
        image = Image.open(path, formats=tuple(FORMATS))
    except MemoryError:
        raise
    except Image.DecompressionBombError:
        raise DataError(f"picture {str(path)!r} has too many pixels; at most {MAX_PIXELS} are read") from None
    except UnidentifiedImageError:
        raise DataError(f"picture {str(path)!r} is not a readable {FORMAT_NAMES}") from None
    except FileNotFoundError:
        raise DataError(f"picture {str(path)!r} does not exist") from None
    except Exception as error:  # a damaged file makes the decoders raise nearly anything
        raise DataError(f"picture {str(path)!r} is not a readable {FORMAT_NAMES} ({_first_line(error)})") from error
    if image.width * image.height > MAX_PIXELS:
        image.close()
        raise DataError(
            f"picture {str(path)!r} has {image.width} x {image.height} pixels; at most {MAX_PIXELS} are read"
        )
    return image


def _verify_checksums(path: Path) -> None:
    """Have Pillow look at the checksum of every part of a PNG, which decoding alone does not."""
    from PIL import Image

    with Image.open(path, formats=("PNG",)) as image:
        image.verify()


def _converted(image: Image.Image, *, deep: bool) -> tuple[Image.Image, tuple[str, ...]]:
    """The picture in mode RGB, or RGBA where it has transparency, and what was converted."""
    from PIL import Image

    conversions = ("16 bit, reduced to 8",) if deep or image.mode.startswith("I") else ()
    if image.mode.startswith("I"):
        gray = np.asarray(image).astype(np.float64) / 257  # 65535 / 257 = 255
        image = Image.fromarray(gray.round().clip(0, 255).astype(np.uint8))
    if image.mode not in ("RGB", "RGBA"):
        conversions = (*conversions, _CONVERSIONS.get(image.mode, f"of mode {image.mode}, converted to RGB"))
    transparent = image.mode in ("LA", "RGBA", "PA") or "transparency" in image.info
    return image.convert("RGBA" if transparent else "RGB"), conversions


def _has_16_bits(path: Path) -> bool:
    # Pillow reduces color of 16 bits to 8 without saying so; the header of a PNG holds the depth at byte 24.
    with path.open("rb") as file:
        head = file.read(25)
    return head.startswith(b"\x89PNG") and head[24:25] == b"\x10"


def _first_line(error: BaseException) -> str:
    lines = str(error).splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
