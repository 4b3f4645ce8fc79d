"""The built-in photographs."""

from __future__ import annotations

import importlib.util
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from nn_from_scratch.denoise.data import photographs
from nn_from_scratch.denoise.data.pictures import read_picture
from nn_from_scratch.errors import DataError


def test_no_photograph_is_on_both_sides() -> None:
    training, validation = photographs.photograph_paths()
    assert not set(training) & set(validation)


def test_the_two_views_of_one_scene_are_on_the_same_side() -> None:
    views = {"motorcycle_left.png", "motorcycle_right.png"}
    assert views <= set(photographs.TRAINING_PHOTOGRAPHS) or views <= set(photographs.VALIDATION_PHOTOGRAPHS)


@pytest.mark.parametrize("name", photographs.TRAINING_PHOTOGRAPHS + photographs.VALIDATION_PHOTOGRAPHS)
def test_every_photograph_is_in_colour_without_conversion(name: str) -> None:
    paths = {path.name: path for side in photographs.photograph_paths() for path in side}
    picture, conversions = read_picture(paths[name])
    assert conversions == ()
    assert not picture[0].equal(picture[1])


def test_scikit_image_without_its_pictures_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = ModuleSpec("skimage", None, origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(DataError, match="scikit-image was installed without its picture '.*coffee.png'; install it"):
        photographs.photograph_paths()


def test_a_missing_scikit_image_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match="scikit-image is not installed; the built-in photographs are in its package"):
        photographs.photograph_paths()
