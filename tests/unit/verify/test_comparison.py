import math

import pytest
import torch

from nn_from_scratch.errors import ShapeError
from nn_from_scratch.verify.comparison import Mismatch, compare, percent


def test_equal_tensors_agree_also_in_their_infinities_and_nans() -> None:
    a = torch.tensor([1.0, math.inf, -math.inf, math.nan])
    assert compare(a, a.clone(), 0.0).mismatch is None


def test_the_worst_entry_is_the_one_with_the_largest_share_of_what_is_allowed() -> None:
    analytic = torch.tensor([[1.0, 2.0], [3.0, 5.0]])
    numeric = torch.tensor([[1.0, 2.5], [3.0, 4.0]])
    found = compare(analytic, numeric, torch.tensor([[1.0, 0.01], [1.0, 0.5]]))
    assert found.margin == pytest.approx(50)
    assert found.mismatch is not None and found.mismatch.index == (0, 1)
    assert (found.mismatch.count, found.mismatch.total) == (2, 4)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_number_that_is_not_finite_never_agrees_with_a_finite_one(value: float) -> None:
    found = compare(torch.tensor([1.0, value]), torch.tensor([1.0, 2.0]), 1e9)
    assert found.mismatch is not None and found.mismatch.index == (1,)
    assert found.mismatch.difference == math.inf


def test_a_scalar_has_the_empty_index() -> None:
    found = compare(torch.tensor(1.0), torch.tensor(2.0), 0.1)
    assert found.mismatch is not None and found.mismatch.index == ()


def test_nothing_differs_between_tensors_without_entries() -> None:
    assert compare(torch.empty(0, 3), torch.empty(0, 3), 0.0).margin == 0


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"analytic has shape \[2\], which should be numeric's, \[3\]"):
        compare(torch.zeros(2), torch.zeros(3), 1.0)


def test_the_message_says_how_many_where_and_by_how_much() -> None:
    mismatch = Mismatch(index=(3, 0), analytic=2.0, numeric=1.0, allowed=1e-9, count=3, total=12)
    assert str(mismatch) == ("3 of 12 entries differ (25 %); worst at [3, 0]: found 2, expected 1, allowed ±1e-09")


@pytest.mark.parametrize(("counted", "word"), [("sampled", "about 3"), ("at least", "at least 3")])
def test_the_message_says_when_the_count_is_not_exact(counted: str, word: str) -> None:
    mismatch = Mismatch(
        index=(0,),
        analytic=2.0,
        numeric=1.0,
        allowed=0.0,
        count=3,
        total=12,
        counted=counted,  # type: ignore[arg-type]
    )
    assert str(mismatch).startswith(word)


def test_the_message_of_a_projection_names_no_entry() -> None:
    mismatch = Mismatch(index=None, analytic=2.0, numeric=1.0, allowed=0.1, count=None, total=5)
    assert "a projection onto a random direction over 5 entries differs" in str(mismatch)


@pytest.mark.parametrize(("share", "text"), [(1.0, "100 %"), (0.99999, "99.999 %"), (0.5, "50 %"), (1e-5, "0.001 %")])
def test_a_share_is_never_rounded_up_to_all(share: float, text: str) -> None:
    assert percent(share) == text
