"""Noise models: how a picture is corrupted, by name and parameters.

Axes: N images, C channels, H height, W width. Values are uint8, 0 to 255.

Noise2Noise with the squared error learns the *mean* of the noisy pictures. Rounding and clipping to 0..255 move that
mean a little for gaussian and poisson noise (only near black and white). Impulse noise moves it everywhere: for a
share p of salt and pepper the mean is (1 - p) x + p * 127.5, so a network trained on such pairs paints somewhat gray.
"""

from __future__ import annotations

import abc
import dataclasses
import math
import re
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from nn_from_scratch.errors import ArgumentError, DtypeError, ShapeError


@runtime_checkable
class Noise(Protocol):
    """A noise model; `str()` of it is the spelling that `parse_noise` reads."""

    def corrupt(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Give a corrupted copy of uint8 images (N, C, H, W), as uint8 of the same shape."""
        ...


class _Checked(abc.ABC):
    """A noise model that checks the images before it corrupts them."""

    def corrupt(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Give a corrupted copy of uint8 images (N, C, H, W), as uint8 of the same shape.

        Raises:
            DtypeError: images is not uint8.
            ShapeError: images does not have 4 dimensions.
        """
        if images.dtype != torch.uint8:
            raise DtypeError(f"images has dtype {images.dtype}, but torch.uint8 is expected, values 0 to 255")
        if images.dim() != 4:
            raise ShapeError(f"images has shape {tuple(images.shape)}, but 4 dimensions, (N, C, H, W), are expected")
        return self._corrupted(images, generator)

    @abc.abstractmethod
    def _corrupted(self, images: Tensor, generator: torch.Generator) -> Tensor: ...


def _check_number(name: str, value: object, *, top: float, top_allowed: bool) -> None:
    fits = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not (fits and 0 < value <= top and (top_allowed or value < top)):  # type: ignore[operator]  # fits: a number
        upper = f"at most {top:g}" if top_allowed else f"below {top:g}"
        raise ArgumentError(f"{name} of the noise is {value!r}, but a number above 0 and {upper} is expected")


def _spell(number: float) -> str:
    # repr() reads back exactly; the "+" of an exponent would look like the separator of a mixture.
    return repr(float(number)).removesuffix(".0").replace("e+", "e")


@dataclass(frozen=True)
class Gaussian(_Checked):
    """Additive gaussian noise, y = clip(round(x + sigma * n)), n standard normal in each value.

    Attributes:
        sigma: standard deviation in units of the 0..255 scale, above 0 and at most 255.

    Raises:
        ArgumentError: sigma is out of its range.
    """

    sigma: float = 25.0

    def __post_init__(self) -> None:
        _check_number("sigma", self.sigma, top=255, top_allowed=True)

    def __str__(self) -> str:
        return f"gaussian:sigma={_spell(self.sigma)}"

    def _corrupted(self, images: Tensor, generator: torch.Generator) -> Tensor:
        n = torch.randn(images.shape, generator=generator)
        return torch.add(images.float(), n, alpha=self.sigma).round_().clamp_(0, 255).to(torch.uint8)


@dataclass(frozen=True)
class Poisson(_Checked):
    """Photon noise, y = clip(round(255 / peak * k)), k drawn from Poisson(peak * x / 255) in each value.

    Attributes:
        peak: mean number of photons at value 255, above 0 and at most 1e6. Fewer photons, more noise.

    Raises:
        ArgumentError: peak is out of its range.
    """

    peak: float = 30.0

    def __post_init__(self) -> None:
        _check_number("peak", self.peak, top=1e6, top_allowed=True)

    def __str__(self) -> str:
        return f"poisson:peak={_spell(self.peak)}"

    def _corrupted(self, images: Tensor, generator: torch.Generator) -> Tensor:
        photons = torch.poisson(images.float().mul_(self.peak / 255), generator=generator)
        return photons.mul_(255 / self.peak).round_().clamp_(0, 255).to(torch.uint8)


@dataclass(frozen=True)
class Impulse(_Checked):
    """Salt and pepper: each value, each channel by itself, becomes 0 or 255 with probability p / 2 each.

    Attributes:
        p: probability that a value is replaced, above 0 and below 1.

    Raises:
        ArgumentError: p is out of its range.
    """

    p: float = 0.1

    def __post_init__(self) -> None:
        _check_number("p", self.p, top=1, top_allowed=False)

    def __str__(self) -> str:
        return f"impulse:p={_spell(self.p)}"

    def _corrupted(self, images: Tensor, generator: torch.Generator) -> Tensor:
        u = torch.rand(images.shape, generator=generator)
        return images.masked_fill(u < self.p / 2, 0).masked_fill_(u >= 1 - self.p / 2, 255)


@dataclass(frozen=True)
class Mixture(_Checked):
    """A choice: each image gets exactly one of the parts, drawn with the parts' weights.

    The two halves of a Noise2Noise pair draw independently, so the two may get different noise models.

    Attributes:
        parts: (weight, noise) pairs; weights are above 0 and need not sum to 1. By default gaussian, poisson and
            impulse, with their defaults, equally often.

    Raises:
        ArgumentError: There is no part, a weight is out of its range, or a part is itself a mixture.
    """

    parts: tuple[tuple[float, Noise], ...] = ((1.0, Gaussian()), (1.0, Poisson()), (1.0, Impulse()))

    def __post_init__(self) -> None:
        if not self.parts:
            raise ArgumentError("parts of the mixture is (), but at least one noise model is expected")
        for weight, noise in self.parts:
            _check_number("weight", weight, top=1e6, top_allowed=True)
            if isinstance(noise, Mixture):
                raise ArgumentError(f"parts of the mixture has {str(noise)!r}, but a mixture holds no other mixture")

    def __str__(self) -> str:
        spelled = (f"{'' if w == 1 else _spell(w) + '*'}{noise}" for w, noise in self.parts)
        return f"mixture:{'+'.join(spelled)}"

    def _corrupted(self, images: Tensor, generator: torch.Generator) -> Tensor:
        noisy = torch.empty_like(images)
        if len(images) == 0:
            return noisy
        weights = torch.tensor([weight for weight, _ in self.parts], dtype=torch.float64)
        chosen = torch.multinomial(weights, len(images), replacement=True, generator=generator)
        for number, (_, noise) in enumerate(self.parts):
            rows = (chosen == number).nonzero().flatten()
            noisy[rows] = noise.corrupt(images[rows], generator)
        return noisy


_SIMPLE: dict[str, type[Gaussian | Impulse | Poisson]] = {"gaussian": Gaussian, "impulse": Impulse, "poisson": Poisson}

#: The names that `parse_noise` knows.
NOISE_NAMES: tuple[str, ...] = (*_SIMPLE, "mixture")


def parse_noise(text: str) -> Noise:
    """Read a noise model from its spelling; the inverse of `str(noise)`.

    Args:
        text: `gaussian:sigma=25`, `poisson:peak=30` or `impulse:p=0.1`; a parameter that is left out has its default.
            `mixture:2*gaussian:sigma=25+impulse:p=0.1` gives each image one of the parts, here gaussian noise twice
            as often; `mixture` alone mixes the other three equally.

    Raises:
        ArgumentError: The name or a parameter is unknown, given twice, not a number or out of its range.
    """
    name, colon, rest = text.strip().partition(":")
    if name != "mixture":
        return _parse_simple(text.strip())
    if not colon:
        return Mixture()
    # A "+" after the "e" of a number, as in 1e+2, belongs to that number.
    return Mixture(tuple(_parse_part(part.strip()) for part in re.split(r"(?<![0-9.][eE])\+", rest)))


def _parse_part(text: str) -> tuple[float, Noise]:
    weight, star, noise = text.partition("*")
    if not star:
        return 1.0, _parse_simple(text)
    return _parse_number("weight", weight, text), _parse_simple(noise.strip())


def _parse_simple(text: str) -> Gaussian | Impulse | Poisson:
    name, colon, rest = text.partition(":")
    model = _SIMPLE.get(name)
    if model is None:
        known = ", ".join(_SIMPLE if name == "mixture" else NOISE_NAMES)
        raise ArgumentError(f"noise {text!r} has no known model {name!r}; known are {known}")
    known_parameters = [field.name for field in dataclasses.fields(model)]
    values: dict[str, float] = {}
    for setting in rest.split(",") if colon else ():
        key, equals, value = (piece.strip() for piece in setting.partition("="))
        if not equals or key not in known_parameters:
            wanted = ", ".join(f"{parameter}=NUMBER" for parameter in known_parameters)
            raise ArgumentError(f"noise {text!r} has the parameter {setting!r}; {name} takes {wanted}")
        if key in values:
            raise ArgumentError(f"noise {text!r} has the parameter {key!r} twice; give it once")
        values[key] = _parse_number(key, value, text)
    return model(**values)


def _parse_number(name: str, value: str, text: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise ArgumentError(f"noise {text!r} has {name} {value!r}, but a number is expected") from None
