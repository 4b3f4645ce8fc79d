from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from nn_from_scratch import Conv2d, Sequential
from nn_from_scratch.denoise.checkpoints import save_checkpoint
from nn_from_scratch.denoise.denoiser import Denoiser

Command = Callable[..., tuple[int, str, str]]


def picture(path: str | Path, mode: str = "RGB", *, height: int = 21, width: int = 34, seed: int = 0) -> Path:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    (Image.new("I;16", image.size, 40_000) if mode == "I;16" else image.convert(mode)).save(path)
    return path


def pixels_of(path: str | Path) -> Any:
    with Image.open(path) as image:
        assert (image.format, image.mode) == ("PNG", "RGB")
        return np.asarray(image)


def test_a_picture_is_denoised_beside_itself(command: Command) -> None:
    source = picture("photo.png")
    before = source.read_bytes()
    status, text, error = command("denoise", source)
    assert (status, text, error) == (0, "photo.png -> photo_denoised.png\n", "")
    expected = Denoiser.pretrained().predict(pixels_of(source))
    assert np.array_equal(pixels_of("photo_denoised.png"), expected)
    assert source.read_bytes() == before


def test_the_model_of_a_run_is_used(command: Command, finished: Path) -> None:
    source = picture("photo.png")
    assert command("denoise", source, "--model", finished)[0] == 0
    expected = Denoiser.load(finished).predict(pixels_of(source))
    assert np.array_equal(pixels_of("photo_denoised.png"), expected)


@pytest.mark.parametrize("mode", ["1", "L", "P", "I;16"])
def test_pictures_of_any_mode(command: Command, mode: str) -> None:
    status, text, _ = command("denoise", picture("photo.png", mode))
    assert status == 0
    assert text.startswith("photo.png -> photo_denoised.png (")
    assert pixels_of("photo_denoised.png").shape == (21, 34, 3)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 50), (3, 2), (64, 63)])
def test_pictures_of_any_size(command: Command, height: int, width: int) -> None:
    assert command("denoise", picture("photo.jpg", height=height, width=width))[0] == 0
    assert pixels_of("photo_denoised.png").shape == (height, width, 3)


def test_out_is_a_file_for_one_picture(command: Command) -> None:
    assert command("denoise", picture("photo.png"), "-o", "sub/clean.PNG")[0] == 0
    assert pixels_of("sub/clean.PNG").shape == (21, 34, 3)


def test_out_is_a_folder(command: Command) -> None:
    assert command("denoise", picture("a.png"), picture("b.jpg"), "-o", "new/folder")[0] == 0
    assert sorted(path.name for path in Path("new/folder").iterdir()) == ["a_denoised.png", "b_denoised.png"]


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
@pytest.mark.parametrize("target", ["out.png", "out.webp", "out.tif"])
def test_transparency_is_kept(command: Command, mode: str, target: str) -> None:
    alpha = Image.linear_gradient("L").resize((34, 21))
    with Image.open(picture("photo.png")) as image:
        transparent = image.convert(mode)
    transparent.putalpha(alpha)
    transparent.save("photo.png")
    for _ in range(2):  # the second time over a result of its own
        assert command("denoise", "photo.png", "-o", target)[0] == 0
    with Image.open(target) as image:
        assert np.array_equal(np.asarray(image.getchannel("A")), np.asarray(alpha))
        expected = Denoiser.pretrained().predict(np.asarray(transparent.convert("RGBA"))[:, :, :3].copy())
        assert np.array_equal(np.asarray(image)[:, :, :3], expected)


def test_transparency_that_a_format_cannot_hold_is_laid_on_white_and_that_is_said(command: Command) -> None:
    Image.new("RGBA", (34, 21), (0, 0, 0, 0)).save("photo.png")
    status, text, _ = command("denoise", "photo.png", "-o", "out.jpg")
    assert (status, text) == (
        0,
        "photo.png -> out.jpg (with transparency, which .jpg cannot hold, laid on white)\n",
    )
    with Image.open("out.jpg") as image:
        assert np.asarray(image).min() > 200


@pytest.mark.parametrize("ending", ["jpg", "webp", "bmp", "tif"])
def test_other_formats_are_read_and_written(command: Command, ending: str) -> None:
    assert command("denoise", picture(f"photo.{ending}"), "-o", f"out.{ending}")[0] == 0
    with Image.open(f"photo.{ending}") as read, Image.open(f"out.{ending}") as written:
        assert written.format == read.format
        expected = Denoiser.pretrained().predict(np.asarray(read.convert("RGB")).copy())
        # 95 is what JPEG is written with: some gray levels.
        assert np.abs(np.asarray(written).astype(int) - expected).mean() < (6 if ending == "jpg" else 1e-9)


def test_an_older_result_is_replaced(command: Command) -> None:
    source = picture("photo.png")
    for _ in range(2):
        assert command("denoise", source)[0] == 0
    assert pixels_of("photo_denoised.png").shape == (21, 34, 3)


def test_a_picture_of_somebody_else_is_not_replaced(command: Command) -> None:
    source, other = picture("photo.png"), picture("photo_denoised.png")
    before = other.read_bytes()
    status, _, error = command("denoise", source)
    assert status == 2
    assert "out is 'photo_denoised.png', a file that this program did not write: choose another name" in error
    assert other.read_bytes() == before


def test_a_bad_picture_is_named_and_the_others_are_done(command: Command) -> None:
    good = [picture("a.png"), picture("z.png")]
    torn = picture("torn.png")
    torn.write_bytes(torn.read_bytes()[:500])
    Path("text.png").write_text("no picture")
    status, text, error = command("denoise", good[0], "none.png", torn, "text.png", good[1])
    assert status == 2
    assert text == "a.png -> a_denoised.png\nz.png -> z_denoised.png\n"
    sentences = error.splitlines()
    assert len(sentences) == 3
    for name, sentence in zip(("none.png", "torn.png", "text.png"), sentences, strict=True):
        assert sentence.startswith(f"nn-from-scratch: error: picture '{name}' ")
    assert sorted(path.name for path in Path().iterdir()) == [
        "a.png",
        "a_denoised.png",
        "text.png",
        "torn.png",
        "z.png",
        "z_denoised.png",
    ]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("a.png", "b.png", "-o", "c.png"), "out is 'c.png', a single file, but 2 pictures are given: name a folder"),
        (
            ("a.png", "-o", "notes.txt"),
            "out is 'notes.txt', which is neither a folder nor a name that ends as PNG, JPEG, WebP, BMP or TIFF",
        ),
        (("a.png", "-o", "a.png"), "out is 'a.png', which is itself a picture to denoise: choose another name"),
        (("a.png", "-o", "./sub/../a.png"), "out is 'sub/../a.png', which is itself a picture to denoise"),
        (("a.png", "a_denoised.png"), "out is 'a_denoised.png', which is itself a picture to denoise"),
        (("a.png", "sub/a.png", "-o", "c"), "'a.png' and 'sub/a.png' would both be written to 'c/a_denoised.png'"),
        (("b.png", "--model", "none"), "checkpoint 'none' does not exist"),
        (("b.png", "--model", "sub"), "model 'sub' is a folder without checkpoint.safetensors: not a training run"),
        (("b.png", "--model", "notes.txt"), "checkpoint 'notes.txt' is not a whole safetensors file"),
        (("b.png", "--device", "tpu"), "device is 'tpu', but 'cpu', 'cuda' or 'cuda:NUMBER' is expected"),
    ],
)
def test_a_request_that_makes_no_sense_changes_nothing(
    command: Command, arguments: tuple[str, ...], sentence: str
) -> None:
    for name in ("a.png", "b.png", "a_denoised.png", "sub/a.png"):
        picture(name)
    Path("notes.txt").write_text("mine")
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    status, text, error = command("denoise", *arguments)
    assert (status, text) == (2, "")
    assert error.startswith(f"nn-from-scratch: error: {sentence}")
    assert len(error.splitlines()) == 1
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before


def test_a_model_of_another_architecture_is_refused(command: Command) -> None:
    save_checkpoint(Path("other.safetensors"), Sequential(Conv2d(3, 3, 3, padding=1)))
    status, _, error = command("denoise", picture("a.png"), "--model", "other.safetensors")
    assert status == 2
    assert "is of another architecture" in error


def test_a_model_with_weights_that_are_not_finite_is_refused(command: Command) -> None:
    denoiser = Denoiser()
    denoiser.model.parameters()["0.bias"][0] = torch.inf
    denoiser.save("bad.safetensors")
    status, _, error = command("denoise", picture("a.png"), "--model", "bad.safetensors")
    assert status == 2
    assert "are not finite" in error


def test_a_full_disk_is_named_and_leaves_nothing(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    status, _, error = command("denoise", picture("a.png"))
    assert (status, error) == (
        2,
        "nn-from-scratch: error: 'a_denoised.png' cannot be written: No space left on device\n",
    )
    assert list(Path().iterdir()) == [Path("a.png")]


def test_an_out_that_cannot_be_made_is_named(command: Command) -> None:
    Path("file").write_text("mine")
    status, _, error = command("denoise", picture("a.png"), "-o", "file/folder")
    assert status == 2
    assert error == "nn-from-scratch: error: 'file/folder/a_denoised.png' cannot be written: Not a directory\n"
