"""`nn-from-scratch denoise`: denoise picture files."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nn_from_scratch.denoise.formats import FORMAT_NAMES, TRANSPARENT, format_of
from nn_from_scratch.errors import ArgumentError, DataError
from nn_from_scratch.storage import is_replaceable, resolved

if TYPE_CHECKING:
    from nn_from_scratch.denoise.denoiser import Denoiser


EXTRA = "denoise"
HELP = "denoise picture files"
DESCRIPTION = """\
Denoise pictures of any size and mode (PNG, JPEG, WebP, BMP or TIFF), and write them with 8 bits a channel as PNG, or
in the format that the name after -o ends with. Transparency is kept where the format can hold it.

Without --model it uses the network that comes with the package, which was trained for gaussian noise with a standard
deviation of 25 (of 255) on photographs of scikit-image. A picture is never written over: the result has another name
or stands in another folder. An older result is replaced, any other file is left alone."""

EPILOG = """\
examples:
  nn-from-scratch denoise photo.jpg                   writes photo_denoised.png beside it
  nn-from-scratch denoise photo.jpg -o clean.png      writes clean.png
  nn-from-scratch denoise photo.jpg -o clean.webp     writes clean.webp
  nn-from-scratch denoise *.png -o denoised/          writes denoised/NAME_denoised.png for each
  nn-from-scratch denoise photo.jpg --model runs/2026-01-31_12-00-00

A picture that cannot be read is named, the others are still done, and the exit status is 2."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="a PNG, JPEG, WebP, BMP or TIFF file")
    parser.add_argument(
        "-o",
        "--out",
        metavar="OUT",
        help="a folder, made if need be; or, for one picture, a name with the ending of a format, as clean.jpg "
        "(default: NAME_denoised.png beside each picture)",
    )
    parser.add_argument(
        "--model", type=Path, metavar="RUN", help="folder of a training run, or a file that Denoiser.save wrote"
    )
    parser.add_argument("--device", default="cpu", metavar="NAME", help="cpu, cuda or cuda:NUMBER (default: cpu)")


def run(args: argparse.Namespace) -> int:
    """Denoise; give the exit status."""
    images: list[Path] = args.images
    targets = outputs(images, args.out)

    from rich.console import Console

    from nn_from_scratch.cli import report_error
    from nn_from_scratch.cli.display import say
    from nn_from_scratch.denoise.denoiser import Denoiser

    if args.model is None:
        denoiser = Denoiser.pretrained(device=args.device)
    else:
        denoiser = Denoiser.load(args.model, device=args.device)
    console = Console()
    failures = 0
    for image, target in zip(images, targets, strict=True):
        failure, remarks = _denoise_file(denoiser, image, target)
        if failure is None:
            say(console, f"{image} -> {target}" + (f" ({'; '.join(remarks)})" if remarks else ""))
        else:
            failures += 1
            report_error(failure)
    return 2 if failures else 0


def outputs(images: Sequence[Path], out: str | None) -> list[Path]:
    """Where the denoised pictures are written.

    Raises:
        ArgumentError: a picture is a folder without a name of its own; two pictures would be written to one place, one
            over another that is to be read, or several to one file.
    """
    file = out is not None and format_of(Path(out)) is not None and not Path(out).is_dir()
    for image in images:
        if not image.name:  # "." or "/"
            raise ArgumentError(f"a picture is {str(image)!r}, which is a folder: name a file")
    if file and len(images) > 1:
        raise ArgumentError(f"out is {out!r}, a single file, but {len(images)} pictures are given: name a folder")
    if out is not None and not file and Path(out).exists() and not Path(out).is_dir():
        raise ArgumentError(f"out is {out!r}, which is neither a folder nor a name that ends as {FORMAT_NAMES}")
    if out is None:
        targets = [image.with_name(f"{image.stem}_denoised.png") for image in images]
    elif file:
        targets = [Path(out)]
    else:
        targets = [Path(out) / f"{image.stem}_denoised.png" for image in images]
    read = {resolved(image) for image in images}
    written: dict[Path, Path] = {}
    for image, target in zip(images, targets, strict=True):
        place = resolved(target)
        if place in read:
            raise ArgumentError(f"out is {str(target)!r}, which is itself a picture to denoise: choose another name")
        if place in written:
            raise ArgumentError(
                f"{str(written[place])!r} and {str(image)!r} would both be written to {str(target)!r}: "
                "denoise them one after another, into different folders"
            )
        if not is_replaceable(target):
            raise ArgumentError(
                f"out is {str(target)!r}, a file that this program did not write: choose another name or remove it"
            )
        written[place] = image
    return targets


def _denoise_file(denoiser: Denoiser, image: Path, target: Path) -> tuple[str | None, tuple[str, ...]]:
    """Denoise one file; give what went wrong, if anything, and what was converted on reading."""
    from nn_from_scratch.denoise.data.pictures import laid_on_white, read_layers, write_picture

    try:
        picture, alpha, remarks = read_layers(image)
        if alpha is not None and format_of(target) not in TRANSPARENT:
            picture, alpha = laid_on_white(picture, alpha), None
            remarks = (*remarks, f"with transparency, which {target.suffix} cannot hold, laid on white")
        denoised = denoiser.predict(picture[None])[0]  # (3, H, W)
        target.parent.mkdir(parents=True, exist_ok=True)
        write_picture(target, denoised, alpha)
    except DataError as error:
        return str(error), ()
    except OSError as error:
        return f"{str(target)!r} cannot be written: {error.strerror or error}", ()
    return None, remarks
