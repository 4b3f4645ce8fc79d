"""Axes have the names N, C, H and W where the forward treats them so, and no name elsewhere."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nn_from_scratch.verify import check
from nn_from_scratch.verify.context import CheckContext
from nn_from_scratch.verify.derivative.axes import axis_names, batch_size, has_images
from nn_from_scratch.verify.derivative.linearization import point_at, working_values
from nn_from_scratch.verify.derivative.probes import VariedOperand
from nn_from_scratch.verify.subjects import as_subject
from tests.functions import draw

IMAGE, KERNEL = draw(2, 3, 6, 7), draw(4, 3, 3, 3, seed=1)
NOTHING = (None, None, None, None)


def _operand(forward: Callable[..., Tensor], name: str, *inputs: Tensor) -> VariedOperand:
    names = ["x", "w", "v"][: len(inputs)]
    subject = as_subject(forward, *(t.clone().requires_grad_() for t in inputs), names=names)
    context = CheckContext()
    return VariedOperand.at(point_at(subject, working_values(subject)[0], context), name, context)


def _attention(x: Tensor, w: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(x, w, v)


@pytest.mark.parametrize(
    ("forward", "name", "inputs", "names"),
    [
        (lambda x, w: F.conv2d(x, w, padding=1), "x", (IMAGE, KERNEL), ("N", "C", "H", "W")),
        (lambda x, w: F.conv2d(x, w, padding=1), "w", (IMAGE, KERNEL), (None, None, "height", "width")),
        (lambda x: F.max_pool2d(x, 2), "x", (IMAGE,), ("N", "C", "H", "W")),
        (lambda x: F.batch_norm(x, None, None, training=True), "x", (IMAGE,), ("N", "C", "H", "W")),
        (lambda x, w: F.conv1d(x, w), "x", (draw(2, 3, 8), draw(4, 3, 3)), ("N", "C", None)),
        (lambda x: F.layer_norm(x, (7,)), "x", (IMAGE,), ("N", None, None, None)),
        (_attention, "x", (IMAGE, IMAGE.flip(0), IMAGE.flip(1)), ("N", None, None, None)),
        (lambda x, w: x @ w, "x", (draw(4, 3), draw(3, 5)), ("N", None)),
        (lambda x, w: x @ w, "w", (draw(4, 3), draw(3, 5)), (None, None)),
        (lambda x: x.softmax(0), "x", (draw(4, 3),), (None, None)),
        (lambda x: x.tanh(), "x", (IMAGE,), NOTHING),
        (lambda x: x.cumsum(0), "x", (IMAGE,), NOTHING),
        (lambda x: x.square().mean(), "x", (IMAGE,), NOTHING),
    ],
)
def test_the_forward_says_what_an_axis_is(
    forward: Callable[..., Tensor], name: str, inputs: tuple[Tensor, ...], names: tuple[str | None, ...]
) -> None:
    assert axis_names(_operand(forward, name, *inputs)) == names


def test_there_is_a_batch_where_samples_keep_apart() -> None:
    assert batch_size(_operand(torch.tanh, "x", IMAGE)) == 2
    assert batch_size(_operand(lambda x: x @ x.T @ x, "x", draw(4, 3))) is None
    assert batch_size(_operand(lambda x: x.softmax(0), "x", draw(4, 3))) is None


def test_places_of_an_image_are_told_from_other_axes() -> None:
    assert has_images(_operand(lambda x, w: F.conv2d(x, w), "w", IMAGE, KERNEL))
    assert not has_images(_operand(_attention, "x", IMAGE, IMAGE.flip(0), IMAGE.flip(1)))


def test_a_name_of_a_fault_calls_no_axis_of_attention_a_height() -> None:
    def forward(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        return _attention(q, k, v), (q, k, v)

    def backward(g: Tensor, cache: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        leaves = [t.detach().requires_grad_() for t in cache]
        with torch.enable_grad():
            dq, dk, dv = torch.autograd.grad(_attention(*leaves), leaves, g)
        return dq.flip(2), dk, dv

    report = check(
        (forward, backward), draw(2, 2, 4, 3), draw(2, 2, 4, 3, seed=1), draw(2, 2, 4, 3, seed=2), checks="gradient"
    )
    assert "is flipped along axis 2." in str(report)
