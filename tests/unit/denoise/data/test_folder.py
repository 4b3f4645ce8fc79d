"""A folder of the user's pictures."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nn_from_scratch.denoise.data import PairSet, folder, load_pairs
from nn_from_scratch.errors import DataError


def draw_picture(path: Path, *, number: int, size: tuple[int, int] = (40, 36)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(values).save(path)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for number in range(3):
        draw_picture(tmp_path / "deep" / "er" / f"n{number}.png", number=number)
    draw_picture(tmp_path / "p.JPG", number=3)
    return tmp_path


def load(path: Path, *, seed: int = 0, validation_size: int = 6) -> PairSet:
    return load_pairs(path, train_size=20, validation_size=validation_size, seed=seed)


def split(path: Path, *, seed: int = 0) -> tuple[list[Path], list[Path]]:
    return folder.split_folder(path, folder.PictureLog(path), seed=seed, validation_at_most=100)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_nested_pictures_are_found_whatever_their_suffix_is_spelled_like(pictures: Path) -> None:
    training, validation = split(pictures)
    assert {path.name for path in training + validation} == {"n0.png", "n1.png", "n2.png", "p.JPG"}


def test_pairs_are_drawn_from_a_folder(pictures: Path) -> None:
    pairs = load(pictures)
    assert pairs.train_noisy_a.shape == (20, 3, 32, 32) and pairs.validation_clean.shape == (6, 3, 32, 32)
    assert pairs.source == f"pictures in {pictures}, 1 of 4 held out" and pairs.notices == ()


def test_whole_pictures_are_held_out(pictures: Path) -> None:
    training, validation = split(pictures)
    assert len(validation) == 1 and not set(training) & set(validation)


def test_one_picture_in_ten_is_held_out(tmp_path: Path) -> None:
    for number in range(30):
        draw_picture(tmp_path / f"{number}.png", number=number, size=(32, 32))
    assert len(split(tmp_path)[1]) == 3


def test_the_order_of_the_file_system_does_not_matter(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = split(pictures)
    walk = os.walk

    def backwards(top: Path, onerror: Callable[[OSError], object]) -> Iterator[tuple[str, list[str], list[str]]]:
        for place, folders, files in reversed(list(walk(top, onerror=onerror))):
            yield str(place), folders, files[::-1]

    monkeypatch.setattr(os, "walk", backwards)
    assert split(pictures) == before


def test_the_seed_decides_the_split(pictures: Path) -> None:
    assert split(pictures, seed=3) == split(pictures, seed=3)
    assert len({split(pictures, seed=seed)[1][0] for seed in range(8)}) > 1


def test_what_was_converted_is_said(pictures: Path) -> None:
    Image.new("L", (40, 40)).save(pictures / "gray.png")
    assert load(pictures).notices == ("1 picture gray, given three equal channels: gray.png",)


def test_a_truncated_picture_is_skipped_and_named(pictures: Path) -> None:
    truncate(pictures / "deep" / "er" / "n1.png")
    notices = load(pictures).notices
    assert len(notices) == 1
    assert notices[0].startswith("1 picture skipped, unreadable: deep/er/n1.png (damaged or truncated (")


def test_a_truncated_picture_is_skipped_whichever_side_it_would_be_on(pictures: Path) -> None:
    truncate(pictures / "p.JPG")
    for seed in range(6):
        assert len(load(pictures, seed=seed).train_noisy_a) == 20


def test_a_file_that_is_no_picture_is_skipped_and_named(pictures: Path) -> None:
    (pictures / "text.png").write_text("hello")
    assert (
        load(pictures)
        .notices[0]
        .startswith("1 picture skipped, unreadable: text.png (not a readable PNG, JPEG, WebP, BMP or TIFF")
    )


def test_a_small_picture_is_skipped_and_named(pictures: Path) -> None:
    draw_picture(pictures / "small.png", number=9, size=(40, 31))
    assert load(pictures).notices == ("1 picture skipped, smaller than 32x32: small.png (40x31)",)


def test_a_copy_is_skipped_and_named(pictures: Path) -> None:
    shutil.copy(pictures / "p.JPG", pictures / "q.jpg")
    assert load(pictures).notices == ("1 picture skipped, copies of others: q.jpg",)


def test_of_many_pictures_twenty_are_named(pictures: Path) -> None:
    for number in range(25):
        draw_picture(pictures / f"small{number:02}.png", number=number, size=(8, 8))
    (notice,) = load(pictures).notices
    assert notice.startswith("25 pictures skipped") and notice.endswith("small19.png (8x8) and 5 more")


def test_hidden_and_other_files_are_left_alone(pictures: Path) -> None:
    (pictures / "._p.png").write_text("hello")
    (pictures / "notes.txt").write_text("hello")
    assert load(pictures).notices == ()


def test_pictures_beyond_the_budget_are_left_out_and_named(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "_TRAINING_PIXELS", 2 * 40 * 36)
    assert load(pictures).notices[0].startswith("1 picture left out, as the others suffice: ")


def test_no_more_pictures_are_held_out_than_validation_images_are_wanted(tmp_path: Path) -> None:
    for number in range(20):
        draw_picture(tmp_path / f"{number}.png", number=number, size=(32, 32))
    assert load(tmp_path, validation_size=1).source.endswith("1 of 20 held out")


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match="data folder '.*nowhere' does not exist; give a folder of PNG, JPEG, WebP, BMP or TIFF"
    ):
        load(tmp_path / "nowhere")


def test_a_file_in_place_of_a_folder_is_refused(pictures: Path) -> None:
    with pytest.raises(
        DataError, match="data folder '.*p.JPG' is not a folder; give a folder of PNG, JPEG, WebP, BMP or TIFF"
    ):
        load(pictures / "p.JPG")


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match="data folder '.*' holds no PNG, JPEG, WebP, BMP or TIFF pictures; give a folder that does"
    ):
        load(tmp_path)


def test_a_folder_that_cannot_be_listed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: object) -> object:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=r"data folder '.*' cannot be listed \(Permission denied\); make it readable"):
        split(tmp_path)


def test_a_folder_of_small_pictures_is_refused(tmp_path: Path) -> None:
    draw_picture(tmp_path / "small.png", number=0, size=(31, 31))
    with pytest.raises(DataError, match=r"holds no picture of 32x32 or more; 1 picture skipped.*small.png \(31x31\)"):
        load(tmp_path)


def test_a_folder_without_a_readable_picture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(DataError, match="has no usable pictures; at least 2 .*; 1 picture skipped, unreadable: text"):
        load(tmp_path)


def test_a_single_picture_is_refused(tmp_path: Path) -> None:
    draw_picture(tmp_path / "a.png", number=0)
    with pytest.raises(DataError, match="has 1 usable picture; at least 2 different ones of 32x32 or more are needed"):
        load(tmp_path)


@pytest.mark.parametrize("seed", range(4))
def test_a_single_picture_beside_a_truncated_one_is_refused(tmp_path: Path, seed: int) -> None:
    for number in range(2):
        draw_picture(tmp_path / f"{number}.png", number=number)
    truncate(tmp_path / "1.png")
    with pytest.raises(DataError, match="has 1 usable picture; at least 2 .*; 1 picture skipped, unreadable: 1.png"):
        load(tmp_path, seed=seed)
