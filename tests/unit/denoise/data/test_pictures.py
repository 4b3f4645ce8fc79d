"""Picture files of every mode, and the built-in photographs."""

from __future__ import annotations

import importlib.util
import struct
import zlib
from importlib.machinery import ModuleSpec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nn_from_scratch.denoise.data import pictures, read_picture
from nn_from_scratch.errors import ArgumentError, DataError


def save(path: Path, mode: str, color: object, **options: object) -> Path:
    Image.new(mode, (40, 33), color).save(path, **options)  # type: ignore[arg-type]
    return path


def first_pixel(path: Path) -> list[int]:
    values: list[int] = read_picture(path)[0][:, 0, 0].tolist()
    return values


def png_header(*, width: int, height: int) -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = struct.pack(">I", 100) + b"IDAT"
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header)) + pixels


def test_color_comes_as_it_is_and_nothing_is_said(tmp_path: Path) -> None:
    picture, conversions = read_picture(save(tmp_path / "a.png", "RGB", (1, 2, 3)))
    assert picture.shape == (3, 33, 40) and picture[:, 0, 0].tolist() == [1, 2, 3] and conversions == ()


@pytest.mark.parametrize(
    ("name", "mode", "color", "wanted", "said"),
    [
        ("a.png", "L", 7, [7, 7, 7], "gray, given three equal channels"),
        ("a.png", "1", 1, [255, 255, 255], "black and white, given three equal channels"),
        ("a.png", "LA", (0, 0), [255, 255, 255], "gray with transparency, given three equal channels"),
        ("a.png", "RGBA", (255, 0, 0, 0), [255, 255, 255], "with transparency, laid on white"),
        ("a.png", "RGBA", (9, 8, 7, 255), [9, 8, 7], "with transparency, laid on white"),
        ("a.png", "P", 0, [0, 0, 0], "with a palette, converted to RGB"),
        ("a.png", "I;16", 257 * 99, [99, 99, 99], "16 bit, reduced to 8"),
        ("a.jpg", "CMYK", (0, 0, 0, 0), [255, 255, 255], "CMYK, converted to RGB"),
    ],
)
def test_another_mode_is_converted_and_that_is_said(
    tmp_path: Path, name: str, mode: str, color: object, wanted: list[int], said: str
) -> None:
    path = save(tmp_path / name, mode, color)
    assert first_pixel(path) == pytest.approx(wanted, abs=2)
    assert any(conversion.startswith(said) for conversion in read_picture(path)[1])


def test_a_palette_with_transparency_is_laid_on_white(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", "P", 0, transparency=0)
    assert first_pixel(path) == [255, 255, 255]
    assert "with transparency, laid on white" in read_picture(path)[1]


def test_color_of_16_bits_is_reduced_and_that_is_said(tmp_path: Path) -> None:
    rows = b"".join(b"\x00" + b"\x63\x00" * 3 * 32 for _ in range(32))
    header = b"IHDR" + struct.pack(">IIBBBBB", 32, 32, 16, 2, 0, 0, 0)
    body = b"\x89PNG\r\n\x1a\n"
    for chunk in (header, b"IDAT" + zlib.compress(rows), b"IEND"):
        body += struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    (tmp_path / "a.png").write_bytes(body)
    assert first_pixel(tmp_path / "a.png") == [0x63] * 3
    assert read_picture(tmp_path / "a.png")[1] == ("16 bit, reduced to 8",)


def test_a_picture_is_turned_upright_and_that_is_said(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    picture, conversions = read_picture(save(tmp_path / "a.jpg", "RGB", "red", exif=exif))
    assert picture.shape == (3, 40, 33)
    assert conversions == ("turned upright by its EXIF orientation",)


def test_a_jpeg_that_holds_several_pictures_gives_the_first(tmp_path: Path) -> None:
    others = [Image.new("RGB", (40, 33), "blue")]
    path = save(tmp_path / "a.mpo", "RGB", "red", save_all=True, append_images=others).rename(tmp_path / "a.jpg")
    assert first_pixel(path) == pytest.approx([255, 0, 0], abs=2)


def test_the_size_is_read_from_the_header_alone(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", "RGB", "red")
    path.write_bytes(path.read_bytes()[:60])
    assert pictures.picture_size(path) == (33, 40)


def test_a_missing_picture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="picture '.*a.png' does not exist"):
        read_picture(tmp_path / "a.png")


def test_a_file_that_is_not_a_picture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("hello")
    with pytest.raises(DataError, match="picture '.*a.png' is not a readable PNG, JPEG, WebP, BMP or TIFF"):
        read_picture(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_truncated_picture_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=rf"picture '.*a.{suffix}' is damaged or truncated \("):
        read_picture(path)


def test_a_picture_with_a_wrong_checksum_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    content = bytearray(path.read_bytes())
    content[content.index(b"IEND") - 5] ^= 1  # the last byte of the checksum of the pixels
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"picture '.*a.png' is damaged or truncated \("):
        read_picture(path)


def test_a_picture_cut_behind_its_header_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", "RGB", "red")
    path.write_bytes(path.read_bytes()[:33])
    with pytest.raises(DataError, match="picture '.*a.png' is "):
        read_picture(path)


def test_a_name_that_stands_for_no_format_is_refused(tmp_path: Path) -> None:
    picture = torch.zeros(3, 4, 4, dtype=torch.uint8)
    with pytest.raises(ArgumentError, match="a name that ends as PNG, JPEG, WebP, BMP or TIFF is expected"):
        pictures.write_picture(tmp_path / "a.gif", picture)
    with pytest.raises(ArgumentError, match="JPEG has no transparency"):
        pictures.write_picture(tmp_path / "a.jpg", picture, picture[0])


def test_a_picture_with_too_many_pixels_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png_header(width=12_000, height=10_000) + bytes(100))
    with pytest.raises(DataError, match="a.png' has 12000 x 10000 pixels; at most 100000000 are read"):
        read_picture(tmp_path / "a.png")


def test_a_decompression_bomb_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png_header(width=60_000, height=60_000) + bytes(100))
    with pytest.raises(DataError, match="a.png' has too many pixels; at most 100000000 are read"):
        read_picture(tmp_path / "a.png")


def test_a_picture_is_written_as_it_is(tmp_path: Path) -> None:
    picture = torch.randint(0, 256, (3, 5, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    pictures.write_picture(tmp_path / "a.png", picture)
    assert read_picture(tmp_path / "a.png")[0].equal(picture)
    with pytest.raises(DataError):
        read_picture(tmp_path / "b.png")


def test_no_photograph_is_on_both_sides() -> None:
    training, validation = pictures.photograph_paths()
    assert not set(training) & set(validation)


def test_the_two_views_of_one_scene_are_on_the_same_side() -> None:
    views = {"motorcycle_left.png", "motorcycle_right.png"}
    assert views <= set(pictures.TRAINING_PHOTOGRAPHS) or views <= set(pictures.VALIDATION_PHOTOGRAPHS)


@pytest.mark.parametrize("name", pictures.TRAINING_PHOTOGRAPHS + pictures.VALIDATION_PHOTOGRAPHS)
def test_every_photograph_is_in_color_without_conversion(name: str) -> None:
    paths = {path.name: path for side in pictures.photograph_paths() for path in side}
    picture, conversions = read_picture(paths[name])
    assert conversions == ()
    assert not picture[0].equal(picture[1])


def test_scikit_image_without_its_pictures_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = ModuleSpec("skimage", None, origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(DataError, match="scikit-image was installed without its picture '.*coffee.png'; install it"):
        pictures.photograph_paths()


def test_a_missing_scikit_image_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match="scikit-image is not installed; the built-in photographs are in its package"):
        pictures.photograph_paths()
