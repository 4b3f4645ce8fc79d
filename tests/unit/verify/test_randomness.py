"""Subjects that draw random numbers are verified for given draws."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from nn_from_scratch.verify import Verdict, check
from nn_from_scratch.verify.randomness import RandomStates, random_sources
from tests.functions import draw

BITS = np.random.default_rng(0)


class Dropout(torch.autograd.Function):
    """A rate of 0.5; the backward keeps the mask, draws it again, forgets its scale, or gives nothing."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, backward: str) -> Tensor:
        mask = (torch.rand_like(x) > 0.5).to(x) * 2
        ctx.save_for_backward(mask)
        ctx.backward = backward
        return x * mask

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        (mask,) = ctx.saved_tensors
        if ctx.backward == "drawn again":
            mask = (torch.rand_like(g) > 0.5).to(g) * 2
        factor = {"not scaled": 0.5, "zero": 0.0}.get(ctx.backward, 1.0)
        return factor * mask * g, None


class Masked:
    """A layer object, whose mask comes from a function; its backward may forget it."""

    def __init__(self, draw: Callable[[Any], Any], *, forgets: bool = False) -> None:
        self.draw = draw
        self.forgets = forgets

    def forward(self, x: Any) -> Any:
        self.mask = self.draw(x)
        return x * self.mask

    def backward(self, dy: Any) -> Any:
        return dy if self.forgets else dy * self.mask


def by_numpy(x: Any) -> Any:
    return (np.random.rand(*x.shape) > 0.3) / 0.7


def by_python(x: Any) -> Any:
    return torch.tensor([random.random() > 0.3 for _ in range(x.shape[1])]).to(x)


@pytest.mark.parametrize(
    "subject",
    [
        lambda x: torch.nn.functional.dropout(x, 0.5, True),
        lambda x: x * torch.empty_like(x).bernoulli_(0.5),
        lambda x: x * torch.rand(x.shape, dtype=x.dtype),
        lambda x: x[:, torch.randint(4, (3,))],
        lambda x: x * torch.from_numpy(BITS.random(x.shape)).to(x),
        torch.nn.Sequential(torch.nn.Linear(4, 4).double(), torch.nn.Dropout(0.5)),
        torch.bernoulli,
    ],
    ids=["dropout", "bernoulli in place", "rand", "indices", "a generator of NumPy's", "module", "no dependence"],
)
def test_right_gradients_through_random_numbers_are_right(subject: object) -> None:
    report = check(subject, draw(5, 4).abs().clamp(max=0.9), strict=True)
    assert report.passed, str(report)
    assert any(note.startswith("draws random numbers") for note in report.notes)


def test_a_right_mask_is_right_and_others_are_not() -> None:
    x = draw(5, 5)
    assert check(Dropout, x, "kept").passed
    for backward, named in (("drawn again", ""), ("not scaled", "too small by a factor of 2")):
        (result,) = check(Dropout, x, backward, checks="gradient").results
        assert result.verdict is Verdict.WRONG, backward
        assert named in str(result.diagnosis)


def test_a_gradient_of_zero_through_a_sample_is_left_open() -> None:
    (result,) = check(Dropout, draw(5, 5), "zero", checks="gradient").results
    assert result.verdict is Verdict.UNDECIDED
    assert "whether a sample is differentiated is a convention" in str(result.reason)


@pytest.mark.parametrize(
    ("mask", "x"), [(by_numpy, draw(5, 4).numpy()), (by_python, draw(5, 4))], ids=["NumPy", "Python"]
)
def test_masks_of_layer_objects_are_kept_or_forgotten(mask: Callable[[Any], Any], x: object) -> None:
    assert check(Masked(mask), x).passed
    (result,) = check(Masked(mask, forgets=True), x, checks="gradient").results
    assert result.verdict is Verdict.WRONG


def test_a_generator_that_is_handed_over_is_put_back() -> None:
    generator = torch.Generator()
    before = generator.get_state()
    report = check(lambda x, g: x * torch.rand(x.shape, generator=g, dtype=x.dtype), draw(5, 4), generator)
    assert report.passed, str(report)
    assert torch.equal(generator.get_state(), before)


def test_the_global_generators_are_put_back() -> None:
    np.random.seed(3)
    states = torch.get_rng_state(), random.getstate(), str(np.random.get_state())
    check(torch.nn.Dropout(0.5), draw(5, 4), checks="gradient")
    check(Masked(by_numpy), draw(5, 4).numpy(), checks="gradient")
    check(Masked(by_python), draw(5, 4), checks="gradient")
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert str(np.random.get_state()) == states[2]


def test_results_do_not_depend_on_the_state_that_was_found() -> None:
    def figures() -> list[tuple[Any, ...]]:
        report = check(Dropout, draw(5, 5), "not scaled", checks="gradient,determinism")
        return [(r.verdict, r.margin, str(r.mismatch)) for r in report.results]

    first = figures()
    torch.rand(3)
    assert figures() == first


def test_a_subject_that_draws_nothing_has_no_note() -> None:
    assert not any("random" in note for note in check(torch.tanh, draw(3), checks="gradient").notes)


@pytest.mark.parametrize(
    ("name", "take"),
    [
        ("torch's generator", lambda: torch.rand(1)),
        ("Python's random", random.random),
        ("NumPy's global generator", np.random.rand),
        ("the Generator that it was given", BITS.random),
    ],
)
def test_the_source_of_a_number_is_told(name: str, take: Callable[[], object]) -> None:
    def subject() -> object:
        return BITS, np

    states = RandomStates(random_sources(subject, ()))
    assert states.drawn() == []
    take()
    assert [source.name for source in states.drawn()] == [name]
    states.close()
    assert states.drawn() == []
