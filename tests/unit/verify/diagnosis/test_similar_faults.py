"""A fault that only resembles one with a name does not get that name."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nn_from_scratch.verify.diagnosis import DiagnosisContext, explain
from tests.functions import draw

Gradient = Callable[[Tensor, dict[str, Tensor]], Tensor]


def _kind(forward: Callable[..., Tensor], wrong: Gradient, name: str, **tensors: Tensor) -> str | None:
    """The kind of the diagnosis of a gradient `wrong(g, tensors)`; everything that `explain` can use is known."""

    def gradient(g: Tensor, values: dict[str, Tensor]) -> Tensor:
        leaves = {key: value.detach().clone().requires_grad_() for key, value in values.items()}
        return torch.autograd.grad(forward(*leaves.values()), leaves[name], g)[0]

    y = forward(*tensors.values())
    g = draw(*y.shape, seed=99)
    context = DiagnosisContext(
        name=name,
        role="input" if name == "x" else "parameter",
        batch_size=len(tensors["x"]),
        tensors=tensors,
        outputs={"y": y},
        cotangent=g,
        numeric_at=lambda cotangents, values: gradient(cotangents["y"], {**tensors, **values}),
    )
    found = explain(wrong(g, tensors), gradient(g, tensors), tolerance=1e-9, context=context)
    return None if found is None else found.kind


def _conv(x: Tensor, w: Tensor) -> Tensor:
    return F.conv2d(x, w, stride=2, padding=1)


CONVOLUTION = {"x": draw(2, 3, 8, 8), "w": draw(4, 3, 3, 3, seed=1)}


@pytest.mark.parametrize(
    "wrong",
    [
        # Windows that start one entry further than if the padding was forgotten.
        lambda g, v: F.pad(F.conv_transpose2d(g, v["w"], stride=2), (1, 0, 1, 0))[:, :, :8, :8],
        # The stride forgotten along one axis, half of it along the other.
        lambda g, v: F.pad(F.conv_transpose2d(g, v["w"], stride=(2, 1)), (0, 2))[:, :, 1:9, 1:9],
        # The stride forgotten, and one channel of the kernel lost.
        lambda g, v: F.pad(F.conv_transpose2d(g, v["w"] * (draw(4, 1, 1, 1) > 0)), (0, 3, 0, 3))[:, :, 1:9, 1:9],
    ],
)
def test_other_windows_are_not_those_of_a_forgotten_number(wrong: Gradient) -> None:
    assert _kind(_conv, wrong, "x", **CONVOLUTION) != "wrong-geometry"


def test_a_weight_in_another_order_is_not_called_reshaped() -> None:
    def wrong(g: Tensor, v: dict[str, Tensor]) -> Tensor:
        order = torch.randperm(v["w"].numel(), generator=torch.Generator().manual_seed(3))
        return F.conv_transpose2d(
            g, v["w"].flatten()[order].reshape(v["w"].shape), stride=2, padding=1, output_padding=1
        )

    assert _kind(_conv, wrong, "x", **CONVOLUTION) is None


def test_a_cotangent_in_another_order_is_not_called_reshaped() -> None:
    def wrong(g: Tensor, v: dict[str, Tensor]) -> Tensor:
        order = torch.randperm(g.numel(), generator=torch.Generator().manual_seed(3))
        mixed = g.flatten()[order].reshape(g.shape)
        w = v["w"].detach().clone().requires_grad_()
        return torch.autograd.grad(_conv(v["x"], w), w, mixed)[0]

    assert _kind(_conv, wrong, "w", **CONVOLUTION) is None


def _elu(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 0.2 * torch.expm1(x))


def _twice(x: Tensor) -> Tensor:
    return x.repeat_interleave(2, 2).repeat_interleave(2, 3)


@pytest.mark.parametrize(
    ("forward", "wrong", "kind"),
    [
        # Another power of the factor, and the factor on another side.
        (_elu, lambda g, v: g * torch.where(v["x"] > 0, 1.0, 0.2 * torch.exp(3 * v["x"])), "factor-of-formula"),
        (_elu, lambda g, v: g * torch.where(v["x"] > 0.3, torch.exp(v["x"]), 0.2 * v["x"].exp()), "factor-of-formula"),
        # The mask of a neighbor.
        (torch.relu, lambda g, v: (g.roll(1, 1) > 0).to(g), "mask-from-cotangent"),
        (torch.relu, lambda g, v: g * (g.roll(1, 1) > 0), "mask-from-cotangent"),
        # A term that is not the input, but looks like it in most entries.
        (torch.sin, lambda g, v: g * v["x"].cos() + v["x"].clamp(max=1), "term-added"),
        (torch.sin, lambda g, v: g * v["x"].cos() + v["x"].roll(1, 0), "term-added"),
        # Blocks interleaved along one axis alone.
        (_twice, lambda g, v: g.reshape(4, 3, 2, 5, 6, 2).sum((2, 5)), "blocks-interleaved"),
        # Two of the four entries, and one of them from another block.
        (_twice, lambda g, v: g[:, :, ::2, ::2] + g[:, :, 1::2, ::2], "cotangent-subsampled"),
        (_twice, lambda g, v: g[:, :, ::2, ::2].roll(1, 2), "cotangent-subsampled"),
    ],
)
def test_another_formula_does_not_get_the_name(forward: Callable[..., Tensor], wrong: Gradient, kind: str) -> None:
    assert _kind(forward, wrong, "x", x=draw(4, 3, 5, 6)) != kind


HEADS = {"x": draw(2, 4, 4, 3), "k": draw(2, 2, 4, 3, seed=1), "v": draw(2, 2, 4, 3, seed=2)}


def _attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k.repeat_interleave(2, 1), v.repeat_interleave(2, 1), is_causal=True)


def _other_mask(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    seen = torch.ones(4, 4, dtype=torch.bool).tril(1)
    return F.scaled_dot_product_attention(q, k.repeat_interleave(2, 1), v.repeat_interleave(2, 1), seen)


def _gradients_of(forward: Callable[..., Tensor], g: Tensor, v: dict[str, Tensor]) -> tuple[Tensor, ...]:
    leaves = tuple(value.detach().clone().requires_grad_() for value in v.values())
    return torch.autograd.grad(forward(*leaves), leaves, g)


@pytest.mark.parametrize(
    ("name", "wrong", "kind"),
    [
        # Another mask than none, and heads in an order that no sum of interleaved ones has.
        ("x", lambda g, v: _gradients_of(_other_mask, g, v)[0], "mask-missing"),
        ("k", lambda g, v: _gradients_of(_attention, g[:, [0, 2, 3, 1]], v)[1], "heads-mixed"),
        # The gradient of another tensor, in another order.
        ("k", lambda g, v: _gradients_of(_attention, g, v)[2].roll(1, 2), "swapped-gradients"),
    ],
)
def test_another_attention_does_not_get_the_name(name: str, wrong: Gradient, kind: str) -> None:
    assert _kind(_attention, wrong, name, **HEADS) != kind


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [
        (lambda g, v: 0.4 * (v["x"].T @ g) + 0.6 * (g.T @ v["x"]), "symmetrized"),
        (lambda g, v: (v["x"].T @ g).tril(1), "triangle"),
        (lambda g, v: v["x"].T @ g + torch.outer(v["w"][0], v["w"][1]), "term-along-axis"),
    ],
)
def test_another_square_matrix_does_not_get_the_name(wrong: Gradient, kind: str) -> None:
    assert _kind(lambda x, w: x @ w, wrong, "w", x=draw(6, 5), w=draw(5, 5, seed=1)) != kind


@pytest.mark.parametrize(
    "wrong",
    [
        lambda g, v: g.roll(1, 0),
        lambda g, v: g * (v["x"].frac().abs() < 0.3),
        lambda g, v: g * v["x"].square(),
        lambda g, v: g.sign(),
    ],
)
def test_not_every_gradient_of_a_step_function_is_an_estimator(wrong: Gradient) -> None:
    assert _kind(torch.round, wrong, "x", x=draw(6, 5)) != "straight-through"


def test_a_sum_of_picks_is_named_only_where_one_is_kept() -> None:
    index = torch.tensor([0, 2, 2, 1, 2, 0])

    def pick(x: Tensor, i: Tensor) -> Tensor:
        return x[i]

    def last(g: Tensor) -> Tensor:
        return torch.stack([g[5], g[3], g[4]])

    def middle(g: Tensor) -> Tensor:
        return torch.stack([g[5], g[3], g[2]])

    def kind(wrong: Callable[[Tensor], Tensor]) -> str | None:
        x, g = draw(3, 4), draw(6, 4, seed=1)
        known = {"x": x, "i": index}
        context = DiagnosisContext(name="x", tensors=known, outputs={"y": pick(x, index)}, cotangent=g)
        truth = torch.zeros_like(x).index_add(0, index, g)
        found = explain(wrong(g), truth, tolerance=1e-9, context=context)
        return None if found is None else found.kind

    assert kind(last) == "accumulation-overwritten"
    assert kind(middle) is None
