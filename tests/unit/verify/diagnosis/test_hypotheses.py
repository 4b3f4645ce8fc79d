"""Faults that show in the two gradients alone: scale, layout, region, missing sums."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from nn_from_scratch.verify.diagnosis.factors import Factor
from tests.functions import draw
from tests.unit.verify.diagnosis.explaining import explained


def _part(numeric: Tensor, index: tuple[slice | int, ...], value: Callable[[Tensor], Tensor]) -> Tensor:
    changed = numeric.clone()
    changed[index] = value(numeric[index])
    return changed


IMAGE = draw(4, 3, 6, 7)
OF_IMAGE = {"role": "input", "batch_size": 4, "axes": ("N", "C", "H", "W")}
MATRIX = draw(5, 4)
KERNEL = draw(3, 3, 3, 3)
PARTS = draw(6, 5, 4)
COMPLEX = torch.view_as_complex(draw(5, 4, 2))


@pytest.mark.parametrize(
    ("analytic", "numeric", "kind", "words"),
    [
        (-MATRIX, MATRIX, "sign", "wrong sign"),
        (0 * MATRIX, MATRIX, "zero", "zero everywhere"),
        (None, MATRIX, "forgotten", "is forgotten: it is None"),
        (2 * MATRIX, MATRIX, "factor", "large by a factor of 2"),
        (MATRIX / 2, MATRIX, "factor", "small by a factor of 2"),
        (-3.7 * MATRIX, MATRIX, "factor", "factor of 3.7, and has the wrong sign"),
        (1.0001 * MATRIX, MATRIX, "factor", "large by a factor of 1.0001"),
        (MATRIX * 20, MATRIX, "factor", "number of entries of the gradient"),
        (MATRIX + 0.5, MATRIX, "offset", "plus the constant 0.5"),
        (MATRIX.abs(), MATRIX, "absolute-value", "absolute value"),
        (MATRIX**2, MATRIX, "squared", "square"),
        (MATRIX.sign(), MATRIX, "sign-only", "sign"),
        (MATRIX.clamp(min=0), MATRIX, "clipped", "zero where the true one is negative"),
        (MATRIX.clamp(-0.5, 0.5), MATRIX, "clipped", "at most 0.5 in magnitude"),
        (torch.where(MATRIX.abs() < 0.5, 0.0, MATRIX), MATRIX, "thresholded", "below"),
        (MATRIX * torch.arange(1.0, 5.0), MATRIX, "factor-along-axis", "along axis 1"),
        (MATRIX.T.contiguous(), MATRIX, "transposed", "shape (4, 5), not (5, 4)"),
        (MATRIX.reshape(4, 5), MATRIX, "reshaped", "shape (4, 5)"),
        (MATRIX.T.reshape(5, 4), MATRIX, "reshaped", "scrambled"),
        (MATRIX.flip(1), MATRIX, "flipped", "axis 1"),
        (-MATRIX.flip(1), MATRIX, "flipped", "also has the wrong sign"),
        (MATRIX.roll(1, 0), MATRIX, "rolled", "+1 along axis 0"),
        (MATRIX.roll(2, 0), MATRIX, "rolled", "+2 along axis 0"),
        (MATRIX[[2, 0, 4, 1, 3]], MATRIX, "reordered", "axis 0"),
        (PARTS[[3, 4, 5, 3, 4, 5]], PARTS, "slices-repeated", "axis 0 in the place of others: 3 at 0, 4 at 1, 5 at 2"),
        (KERNEL.flip(2, 3), KERNEL, "flipped", "axis 2 and axis 3"),
        (KERNEL.permute(1, 2, 3, 0), KERNEL, "permuted", "(1, 2, 3, 0)"),
        (_part(IMAGE.roll(1, 2), (slice(None), slice(None), 0), torch.zeros_like), IMAGE, "shifted", "with zeros"),
        (_part(IMAGE.roll(1, 2), (slice(None), slice(None), 0), torch.cos), IMAGE, "shifted", "axis 2"),
        (MATRIX.sum(0), MATRIX, "summed-away", "summed over axis 0"),
        (MATRIX.mean(1, keepdim=True), MATRIX, "summed-away", "averaged over axis 1"),
        (MATRIX.mean(0).expand(5, 4), MATRIX, "reduced", "mean"),
        (PARTS, PARTS.sum(0), "broadcast-not-summed", "axis 0"),
        (COMPLEX.conj(), COMPLEX, "conjugated", "complex conjugate"),
    ],
)
def test_a_transformed_gradient_is_named(analytic: Tensor | None, numeric: Tensor, kind: str, words: str) -> None:
    diagnosis = explained(analytic, numeric)
    assert diagnosis.kind == kind, diagnosis.sentence
    assert words in diagnosis.sentence


@pytest.mark.parametrize(
    ("index", "value", "kind", "words"),
    [
        ((slice(1, None),), torch.zeros_like, "first-sample-only", "zero everywhere but in the first place"),
        ((slice(1, None),), torch.cos, "first-sample-only", "wrong everywhere but"),
        ((slice(1, None),), lambda t: 2 * t, "first-sample-only", "large by a factor of 2"),
        ((..., -1, slice(None)), torch.cos, "edge", "wrong in the last place along axis 2 (H)"),
        ((..., slice(None), slice(0, 2)), torch.neg, "edge", "wrong sign in the first 2 places along axis 3"),
        ((..., slice(None, None, 2)), torch.cos, "stride-phase", "0 mod 2 along axis 3 (W)"),
        ((slice(None), 1), torch.cos, "slice", "place 1 along axis 1 (C)"),
    ],
)  # fmt: skip
def test_a_region_is_named(
    index: tuple[slice | int, ...], value: Callable[[Tensor], Tensor], kind: str, words: str
) -> None:
    diagnosis = explained(_part(IMAGE, index, value), IMAGE, **OF_IMAGE)
    assert diagnosis.kind == kind, diagnosis.sentence
    assert words in diagnosis.sentence


def test_a_border_is_named() -> None:
    wrong = IMAGE.cos()
    wrong[:, :, 1:-1, 1:-1] = IMAGE[:, :, 1:-1, 1:-1]
    diagnosis = explained(wrong, IMAGE, **OF_IMAGE)
    assert diagnosis.kind == "border"
    where = "wrong in the place at each end along axis 2 (H) or the place at each end along axis 3 (W)"
    assert where in diagnosis.sentence


@pytest.mark.parametrize(
    ("factor", "words"),
    [
        (5.0, "N, the batch size"),
        (0.2, "small by a factor of 5, which is here N, the batch size"),
        (3.0, "the number of uses"),
        (42.0, "H·W"),
        (1.25, "n/(n-1) where n is N, the batch size"),
        (0.9, "eps or its inverse"),
    ],
)
def test_a_factor_has_the_name_of_what_it_is(factor: float, words: str) -> None:
    known = {"batch_size": 5, "uses": 3, "cotangent": draw(5, 2, 6, 7), "constants": {"eps": 0.9}}
    diagnosis = explained(factor * MATRIX, MATRIX, **known)
    assert diagnosis.kind == "factor"
    assert words in diagnosis.sentence


def test_a_factor_with_two_names_has_both() -> None:
    diagnosis = explained(2 * MATRIX, MATRIX, batch_size=2)
    assert "N, the batch size" in diagnosis.sentence


def test_a_term_for_each_row_is_named() -> None:
    v, rows = draw(6, 4, seed=3), draw(6, 1, seed=4)
    known = {"name": "v", "tensors": {"v": v}}
    diagnosis = explained(draw(6, 4) + rows * v, draw(6, 4), **known)
    assert diagnosis.kind == "term-along-axis"
    assert "a multiple of 'v' for each place along axis 0" in diagnosis.sentence


def test_a_factor_close_to_one_is_said_as_a_share() -> None:
    assert str(Factor(1 + 3e-8)) == "is too large by a share of 3e-08"
    assert str(Factor(-(1 - 2e-9))) == "is too small by a share of 2e-09, and has the wrong sign"
    assert str(Factor(0.25)) == "is too small by a factor of 4"
