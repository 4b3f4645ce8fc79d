"""Which inputs share samples is found by what the forward does; nothing right is cut or repeated wrongly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nn_from_scratch.errors import ArgumentError
from nn_from_scratch.verify import check
from nn_from_scratch.verify.reports import Report
from nn_from_scratch.verify.results import Verdict
from tests.functions import draw, function

CHECKS = ("batch_consistency", "other_shapes")


def look(subject: Any, *inputs: Any, **options: Any) -> Report:
    return check(subject, *inputs, checks=CHECKS, **options)


def batched(report: Report) -> object:
    return report.results[0].details.get("batched")


X, INDEX = draw(4, 5), torch.tensor([0, 1, 4, 2])

SHARED: list[tuple[str, Callable[..., Any], tuple[Tensor, ...], list[str]]] = [
    ("a bias with as many entries as the batch", lambda x, w, b: F.linear(x, w, b), (draw(5, 5), X, draw(4)), ["x"]),
    ("a row for each column", lambda x, b: x + b, (draw(5, 5), draw(5, seed=1)), ["x"]),
    ("targets of classes", lambda x, t: F.cross_entropy(x, t), (X, INDEX), ["t", "x"]),
    ("a sum over samples", lambda x, t: F.mse_loss(x, t, reduction="sum"), (X, draw(4, 5, seed=1)), ["t", "x"]),
    (
        "keys of another length",
        F.scaled_dot_product_attention,
        (draw(4, 3, 8), draw(4, 6, 8), draw(4, 6, 8)),
        ["input0", "input1", "input2"],
    ),
    ("keys without a batch", lambda q, k: (q @ k.T).softmax(1) @ k, (draw(4, 8), draw(4, 8, seed=1)), ["q"]),
    ("a mask of samples", lambda x, m: x * m[:, None], (X, torch.tensor([1, 0, 1, 1])), ["m", "x"]),
    ("a mask of columns", lambda x, m: x * m, (draw(4, 4), torch.tensor([1, 0, 1, 1])), ["x"]),
    ("one sample", lambda x, w: x @ w, (X[:1], draw(5, 3)), ["x"]),
    ("several outputs", lambda x: (x.sin(), x.square().mean(), x.argmax(1), x > 0), (X,), ["x"]),
]


@pytest.mark.parametrize(
    ("subject", "inputs", "shared"), [case[1:] for case in SHARED], ids=[case[0] for case in SHARED]
)
def test_the_inputs_that_share_samples_are_found(
    subject: Callable[..., Any], inputs: tuple[Tensor, ...], shared: list[str]
) -> None:
    report = look(subject, *inputs)
    assert report.verdict is Verdict.CORRECT, str(report)
    assert batched(report) == shared


MIXED: list[tuple[str, Callable[..., Any], tuple[Tensor, ...]]] = [
    ("index_copy", lambda x, i, s: x.index_copy(0, i, s), (draw(3, 2), torch.tensor([2, 0, 1]), draw(3, 2, seed=1))),
    ("index_copy of one", lambda x, i, s: x.index_copy(0, i, s), (draw(1), torch.tensor([0]), draw(1, seed=1))),
    ("index_select of one", lambda x, i: x.index_select(0, i), (draw(1), torch.tensor([0]))),
    ("put", lambda x, i, s: x.put(i, s), (draw(3, 3), torch.tensor([1, 4, 7]), draw(3, seed=1))),
    ("scatter", lambda x, i: x.scatter(0, i, 2.0), (draw(3, 3), torch.tensor([[2, 0, 1]]))),
    ("batch norm", lambda x: F.batch_norm(x, None, None, training=True), (X,)),
    ("contrastive", lambda a, b: F.cross_entropy(a @ b.T, torch.arange(len(a))), (X, draw(4, 5, seed=1))),
    ("channels, height, width", F.conv2d, (draw(3, 6, 6), draw(2, 3, 3, 3))),
    ("weights of classes", F.cross_entropy, (draw(4, 4).requires_grad_(), torch.tensor([0, 1, 3, 2]), draw(4).abs())),
    ("sequence first", lambda x: x.cumsum(0), (X,)),
    ("distances", F.pdist, (X,)),
    ("a value that is cut off", lambda x: x.median(0).values.clamp(min=9.0), (draw(5),)),
    ("a value that hardly moves", lambda x: torch.sigmoid(x.sum()), (1e-5 * draw(4, 1).float(),)),
    ("a sum of what has no width", lambda x, v, w: F.silu((x @ v) @ w), (1e5 * draw(4, 4), draw(4), draw(4, seed=1))),
    ("entries that are selected", lambda x: torch.cat([x[x > 0], x[x > 0].flip(0)]), (X[:1],)),
    ("normalized single entries", lambda x: F.layer_norm(x.reshape(-1, 1), (1,)), (draw(1, 3),)),
]


@pytest.mark.parametrize(("subject", "inputs"), [case[1:] for case in MIXED], ids=[case[0] for case in MIXED])
def test_a_function_that_mixes_samples_has_no_batch(subject: Callable[..., Any], inputs: tuple[Tensor, ...]) -> None:
    first, second = look(subject, *inputs).results
    assert first.verdict is Verdict.NOT_APPLICABLE and "no dimension of its inputs" in (first.reason or "")
    assert second.verdict in (Verdict.NOT_APPLICABLE, Verdict.CORRECT), str(second)
    assert not any("sample" in where for where in second.details["looked"])


def test_the_user_may_say_what_the_batch_is() -> None:
    lstm = nn.LSTM(5, 3).double()
    sequences = draw(6, 2, 5)
    assert batched(look(lstm, sequences)) is None
    report = look(lstm, sequences, batch={"input": 1})
    assert batched(report) == ["input"] and report.passed
    assert look(lambda x, w: x * w, X, X + 1, batch="x").results[0].verdict is Verdict.NOT_APPLICABLE, "w has four rows"
    assert batched(look(lambda x, w: x * w, X, X + 1, batch=["x", "w"])) == ["w", "x"]
    assert batched(look(torch.sin, X, batch=())) is None, "a function without a batch, as the user says"


@pytest.mark.parametrize(("batch", "message"), [("y", "batch='y' names 'y'"), ({"x": 2}, "says dimension 2 of x")])
def test_a_batch_that_makes_no_sense_is_refused(batch: object, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        look(lambda x: x.sin(), X, batch=batch)


def test_a_loss_that_forgets_its_samples_is_fragile() -> None:
    wrong = function(lambda x: x.square().mean(), lambda g, x: g * 2 * x / 20)
    report = look(wrong, X)
    assert report.verdict is Verdict.FRAGILE
    reasons = [result.reason or "" for result in report.results]
    assert "not made up of the gradients of its samples" in reasons[0] and "for one sample" in reasons[1]
    at_one = function(lambda x: x.square().mean(), lambda g, x: g * 2 * x / 5)
    assert look(at_one, X[:1]).verdict is Verdict.FRAGILE


def test_what_the_user_says_is_a_batch_is_valid_with_other_numbers_of_samples() -> None:
    def centered(x: Tensor) -> Tensor:
        return x - x.mean(0)

    assert look(centered, X).results[1].details["looked"] == ["for x of shape (4, 2, 5)"]
    right = look(centered, X, batch="x").results[1]
    assert right.verdict is Verdict.CORRECT and "for 8 samples" in right.details["looked"]
    fixed = function(centered, lambda g, x: g - g.sum(0) / 4)
    wrong = look(fixed, X, batch="x").results[1]
    assert wrong.verdict is Verdict.FRAGILE and "for one sample" in (wrong.reason or "")


@pytest.mark.parametrize(
    "subject", [lambda x: x.topk(1, -2).values.diagonal(0, 0, -1), lambda x: x.median(0).values.max()]
)
def test_two_samples_that_give_the_same_are_not_taken_for_a_mean(subject: Any) -> None:
    assert look(subject, draw(1, 2, 1)).counts["fragile"] == 0


def test_statistics_are_not_cut_where_the_samples_are_mixed() -> None:
    # As many channels as samples: cut to one, a kernel that looks at no sizes would read what is not there.
    sizes: set[int] = set()

    def normalized(x: Tensor, mean: Tensor) -> Tensor:
        sizes.add(mean.shape[0])
        return x - x.mean(0) * mean[: x.shape[1]]

    assert batched(look(normalized, draw(5, 5), draw(5))) is None
    assert sizes == {5}


def test_places_are_cut_together_with_what_they_are_in() -> None:
    sizes: set[tuple[int, int]] = set()

    def picked(x: Tensor, index: Tensor) -> Tensor:
        sizes.add((x.shape[0], index.shape[0]))
        return x.gather(1, index[: x.shape[0], None])

    assert batched(look(picked, X, INDEX)) == ["index", "x"]
    assert {rows - places for rows, places in sizes} == {0}


def test_an_empty_batch_is_tried_where_somebody_wrote_the_backward() -> None:
    sizes: list[int] = []

    def square(x: Tensor) -> Tensor:
        sizes.append(x.shape[0])
        return x.square()

    report = look(square, X)
    assert 0 not in sizes and report.results[0].details["N = 0"] == "the backward is PyTorch's own"
    look(function(square, lambda g, x: 2 * x * g), X)
    assert 0 in sizes


@pytest.mark.parametrize("reduce", [torch.sum, torch.mean])
def test_a_kinked_function_of_a_reduction_is_not_taken_apart(reduce: Callable[..., Tensor]) -> None:
    def slope(g: Tensor, x: Tensor) -> Tensor:
        y = reduce(x, 0)
        return (g * torch.where(y > 0, 1.0, 0.1)).expand_as(x) / (1 if reduce is torch.sum else len(x))

    subject = function(lambda x: F.leaky_relu(reduce(x, 0), 0.1), slope)
    # The first sample and the sum of the others are positive, and so is that of all; one of the others is not.
    report = look(subject, torch.tensor([[1.0], [3.0], [-2.0], [1.5]], dtype=torch.float64))
    assert (report.counts["fragile"], report.counts["limit"]) == (0, 0), str(report)


def test_what_is_pytorchs_own_at_another_shape_is_a_limit_and_what_is_by_hand_is_not() -> None:
    def constant_alone(x: Tensor) -> Tensor:
        return x * (x.detach() if len(x) == 1 else x)

    (own,) = check(constant_alone, draw(4, 3), checks="other_shapes").results
    assert own.verdict is Verdict.LIMIT and "all of the backward is PyTorch's own" in str(own.reason)
    by_hand = function(torch.square, lambda g, x: (1 if len(x) == 1 else 2) * g * x)
    (hand,) = check(by_hand, draw(4, 3), checks="other_shapes").results
    assert hand.verdict is Verdict.FRAGILE
