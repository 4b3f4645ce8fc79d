"""Cutting crops out of pictures."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from nn_from_scratch.denoise.data.crops import cut_crops, draw_crops, random_stream
from nn_from_scratch.errors import ArgumentError, DtypeError, ShapeError


def picture(*, height: int = 40, width: int = 50) -> Tensor:
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(5))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(pictures: dict[Path, Tensor | None], count: int) -> list[int]:
    """The first value of each crop; the pictures are of one value."""
    pieces = list(draw_crops(list(pictures), count, generator(), read=pictures.get, vary=False))
    return [] if not pieces else torch.cat(pieces)[:, 0, 0, 0].tolist()


def plain(value: int) -> Tensor:
    return torch.full((3, 32, 32), value, dtype=torch.uint8)


def numbers(seed: int, *purpose: str | int) -> Tensor:
    return torch.rand(8, generator=random_stream(seed, *purpose))


def test_seed_and_purpose_decide_the_random_stream() -> None:
    assert numbers(0, "noise", 1).equal(numbers(0, "noise", 1))
    for other in ((1, "noise", 1), (0, "noise", 2), (0, "crops", 1), (0, "noise")):
        assert not numbers(0, "noise", 1).equal(numbers(*other))


def test_a_seed_may_be_of_any_size() -> None:
    assert not numbers(10**30, "noise").equal(numbers(10**30 + 1, "noise"))


def test_crops_are_windows_of_the_picture() -> None:
    source = picture()
    windows = source.unfold(1, 32, 1).unfold(2, 32, 1).permute(1, 2, 0, 3, 4).flatten(0, 1)  # (positions, 3, 32, 32)
    for crop in cut_crops(source, 20, generator(), vary=False):
        assert windows.eq(crop).flatten(1).all(1).any()


def test_every_position_is_drawn() -> None:
    crops = cut_crops(picture(height=33, width=34), 200, generator(), vary=False)
    assert len(crops.flatten(1).unique(dim=0)) == 2 * 3


def test_varied_crops_are_mirrored_and_have_their_channels_in_any_order() -> None:
    source = picture(height=32, width=32)
    crops = cut_crops(source, 400, generator(), vary=True)
    assert len(crops.flatten(1).unique(dim=0)) == 2 * 6
    assert crops.sort(1).values.flip(-1).eq(source.sort(0).values).flatten(1).all(1).float().mean() == pytest.approx(
        0.5, abs=0.1
    )


def test_the_generator_decides_the_crops() -> None:
    first = cut_crops(picture(), 20, generator(1), vary=True)
    assert first.equal(cut_crops(picture(), 20, generator(1), vary=True))
    assert not first.equal(cut_crops(picture(), 20, generator(2), vary=True))


def test_a_picture_smaller_than_a_crop_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"picture has shape \(3, 31, 50\), but .* at least 32 is expected"):
        cut_crops(picture(height=31), 1, generator(), vary=False)


def test_a_picture_of_another_dtype_is_refused() -> None:
    with pytest.raises(DtypeError, match="picture has dtype torch.float32, but torch.uint8 is expected"):
        cut_crops(picture().float(), 1, generator(), vary=False)


def test_a_negative_number_of_crops_is_refused() -> None:
    with pytest.raises(ArgumentError, match="count is -1, but a number of crops of at least 0 is expected"):
        cut_crops(picture(), -1, generator(), vary=False)


def test_each_picture_gives_equally_many_crops() -> None:
    assert draw({Path("a"): plain(1), Path("b"): plain(2), Path("c"): plain(3)}, 6) == [1, 1, 2, 2, 3, 3]


def test_no_more_pictures_are_read_than_crops_are_wanted() -> None:
    read: list[str] = []

    def note(path: Path) -> Tensor:
        read.append(path.name)
        return plain(0)

    list(draw_crops([Path("a"), Path("b"), Path("c")], 2, generator(), read=note, vary=False))
    assert read == ["a", "b"]


@pytest.mark.parametrize("unreadable", ["a", "b", "c"])
def test_the_share_of_an_unreadable_picture_falls_to_the_others(unreadable: str) -> None:
    pictures = {Path(name): None if name == unreadable else plain(ord(name)) for name in "abc"}
    drawn = draw(pictures, 12)
    assert len(drawn) == 12 and min(drawn.count(value) for value in set(drawn)) >= 4


def test_nothing_is_drawn_when_nothing_can_be_read() -> None:
    assert draw({Path("a"): None, Path("b"): None}, 4) == []
