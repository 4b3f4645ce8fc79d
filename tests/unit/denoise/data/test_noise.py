"""Noise models and their spelling."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from nn_from_scratch.denoise.data import NOISE_NAMES, Gaussian, Impulse, Mixture, Noise, Poisson, parse_noise
from nn_from_scratch.errors import ArgumentError, DtypeError, ShapeError

ALL = [Gaussian(), Poisson(), Impulse(), Mixture()]


def gray(value: int, *, count: int = 64) -> Tensor:
    return torch.full((count, 3, 32, 32), value, dtype=torch.uint8)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("noise", ALL, ids=str)
def test_the_result_is_uint8_of_the_same_shape(noise: Noise) -> None:
    noisy = noise.corrupt(gray(100, count=5), generator())
    assert noisy.shape == (5, 3, 32, 32) and noisy.dtype == torch.uint8


@pytest.mark.parametrize("noise", ALL, ids=str)
def test_the_images_are_left_alone(noise: Noise) -> None:
    images = gray(100, count=5)
    noise.corrupt(images, generator())
    assert images.eq(100).all()


@pytest.mark.parametrize("noise", ALL, ids=str)
def test_the_generator_decides_the_noise(noise: Noise) -> None:
    images = gray(100, count=5)
    first = noise.corrupt(images, generator(1))
    assert first.equal(noise.corrupt(images, generator(1)))
    assert not first.equal(noise.corrupt(images, generator(2)))


@pytest.mark.parametrize("noise", ALL, ids=str)
def test_no_images_stay_no_images(noise: Noise) -> None:
    assert noise.corrupt(gray(0, count=0), generator()).shape == (0, 3, 32, 32)


@pytest.mark.parametrize("noise", ALL, ids=str)
def test_images_of_another_dtype_are_refused(noise: Noise) -> None:
    with pytest.raises(DtypeError, match="images has dtype torch.float32, but torch.uint8 is expected"):
        noise.corrupt(torch.zeros(1, 3, 32, 32), generator())


@pytest.mark.parametrize("noise", ALL, ids=str)
def test_one_image_without_a_batch_is_refused(noise: Noise) -> None:
    with pytest.raises(ShapeError, match=r"images has shape \(3, 32, 32\), but 4 dimensions"):
        noise.corrupt(gray(0)[0], generator())


def test_gaussian_noise_has_the_stated_mean_and_deviation() -> None:
    noisy = Gaussian(sigma=10).corrupt(gray(128), generator()).float()
    assert noisy.mean() == pytest.approx(128, abs=0.1)
    assert noisy.var() == pytest.approx(100 + 1 / 12, rel=0.02)  # rounding adds 1/12


def test_gaussian_noise_is_clipped_not_wrapped() -> None:
    assert Gaussian(sigma=25).corrupt(gray(255), generator()).float().mean() > 240


def test_poisson_noise_has_a_variance_that_grows_with_the_value() -> None:
    for value in (50, 100):
        noisy = Poisson(peak=100).corrupt(gray(value), generator()).float()
        assert noisy.mean() == pytest.approx(value, abs=0.3)
        assert noisy.var() == pytest.approx(value * 255 / 100, rel=0.03)


def test_poisson_noise_leaves_black_black() -> None:
    assert Poisson().corrupt(gray(0), generator()).eq(0).all()


def test_impulse_noise_replaces_the_stated_share_half_by_black_half_by_white() -> None:
    noisy = Impulse(p=0.2).corrupt(gray(100), generator())
    for value, share in ((0, 0.1), (255, 0.1), (100, 0.8)):
        assert noisy.eq(value).float().mean() == pytest.approx(share, abs=0.005)


def test_a_mixture_gives_each_image_one_of_its_parts() -> None:
    noisy = Mixture(((1, Gaussian(sigma=5)), (3, Impulse(p=0.5)))).corrupt(gray(100, count=400), generator())
    has_salt = noisy.eq(255).flatten(1).any(1)
    has_near_values = noisy.eq(101).flatten(1).any(1)
    assert (has_salt ^ has_near_values).all()
    assert has_salt.float().mean() == pytest.approx(0.75, abs=0.08)


@pytest.mark.parametrize(
    ("text", "noise"),
    [
        ("gaussian", Gaussian(25)),
        ("gaussian:sigma=12.5", Gaussian(12.5)),
        ("poisson:peak=30", Poisson(30)),
        ("impulse:p=0.1", Impulse(0.1)),
        ("mixture", Mixture()),
        ("mixture:2*gaussian:sigma=25 + impulse", Mixture(((2, Gaussian(25)), (1, Impulse())))),
        ("mixture:1e+2*gaussian+poisson", Mixture(((100, Gaussian()), (1, Poisson())))),
    ],
)
def test_a_spelling_is_read(text: str, noise: Noise) -> None:
    assert parse_noise(text) == noise


def test_the_canonical_spelling_is_short() -> None:
    assert str(Mixture(((2, Gaussian()), (1, Poisson(1e-7))))) == "mixture:2*gaussian:sigma=25+poisson:peak=1e-07"


SIMPLE = st.one_of(
    st.floats(0, 255, exclude_min=True).map(Gaussian),
    st.floats(0, 1e6, exclude_min=True).map(Poisson),
    st.floats(0, 1, exclude_min=True, exclude_max=True).map(Impulse),
)
WEIGHTED = st.tuples(st.floats(0, 1e6, exclude_min=True), SIMPLE)


@given(st.one_of(SIMPLE, st.lists(WEIGHTED, min_size=1, max_size=4).map(tuple).map(Mixture)))
def test_the_spelling_of_a_noise_reads_back(noise: Noise) -> None:
    assert parse_noise(str(noise)) == noise


@pytest.mark.parametrize("name", NOISE_NAMES)
def test_every_known_name_is_read(name: str) -> None:
    assert str(parse_noise(name)).startswith(name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fog", "noise 'fog' has no known model 'fog'; known are gaussian, impulse, poisson, mixture"),
        ("", "noise '' has no known model ''; known are gaussian, impulse, poisson, mixture"),
        ("gaussian:peak=3", "noise 'gaussian:peak=3' has the parameter 'peak=3'; gaussian takes sigma=NUMBER"),
        ("gaussian:25", "has the parameter '25'; gaussian takes sigma=NUMBER"),
        ("impulse:", "has the parameter ''; impulse takes p=NUMBER"),
        ("gaussian:sigma=1,sigma=2", "has the parameter 'sigma' twice; give it once"),
        ("gaussian:sigma=much", "has sigma 'much', but a number is expected"),
        ("gaussian:sigma=0", "sigma of the noise is 0.0, but a number above 0 and at most 255 is expected"),
        ("gaussian:sigma=256", "sigma of the noise is 256.0, but a number above 0 and at most 255 is expected"),
        ("gaussian:sigma=nan", "sigma of the noise is nan, but a number above 0 and at most 255 is expected"),
        ("poisson:peak=-1", r"peak of the noise is -1.0, but a number above 0 and at most 1e\+06 is expected"),
        ("impulse:p=1", "p of the noise is 1.0, but a number above 0 and below 1 is expected"),
        ("mixture:", "noise '' has no known model ''"),
        ("mixture:0*gaussian", "weight of the noise is 0.0, but a number above 0"),
        ("mixture:x*gaussian", "has weight 'x', but a number is expected"),
        ("mixture:gaussian+mixture", "has no known model 'mixture'; known are gaussian, impulse, poisson$"),
    ],
)
def test_a_bad_spelling_is_refused(text: str, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        parse_noise(text)


def test_a_mixture_of_nothing_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"parts of the mixture is \(\), but at least one noise model is expected"):
        Mixture(())


def test_a_mixture_in_a_mixture_is_refused() -> None:
    with pytest.raises(
        ArgumentError, match="parts of the mixture has 'mixture:gaussian.*', but a mixture holds no other mixture"
    ):
        Mixture(((1, Mixture()),))


def test_a_parameter_that_is_not_a_number_is_refused() -> None:
    with pytest.raises(
        ArgumentError, match="sigma of the noise is True, but a number above 0 and at most 255 is expected"
    ):
        Gaussian(sigma=True)
