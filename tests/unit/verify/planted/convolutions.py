"""Convolutions and transposed convolutions, written with autograd of the plain forward and then spoilt."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.unit.verify.planted.fault import Backward, PlantedFault

Gradients = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def _conv(stride: int, padding: int) -> Callable[..., Tensor]:
    return lambda x, w, b: F.conv2d(x, w, b, stride=stride, padding=padding)


def _transpose(stride: int, padding: int) -> Callable[..., Tensor]:
    return lambda x, w, b: F.conv_transpose2d(x, w, b, stride=stride, padding=padding)


def _vjp(forward: Callable[..., Tensor], g: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    leaves = tuple(value.detach().clone().requires_grad_() for value in inputs)
    with torch.enable_grad():
        return torch.autograd.grad(forward(*leaves), leaves, g)


def _with(forward: Callable[..., Tensor], target: str, wrong: Gradients) -> Backward:
    """The right backward with the gradient of x, weight or bias replaced by `wrong(g, x, w, b)`."""

    def backward(g: Tensor, x: Tensor, w: Tensor, b: Tensor) -> tuple[Tensor | None, ...]:
        gradients = list(_vjp(forward, g, x, w, b))
        gradients[("x", "weight", "bias").index(target)] = wrong(g, x, w, b)
        return tuple(gradients)

    return backward


def _fault(
    fault: str,
    kind: str,
    target: str,
    wrong: Gradients,
    *,
    shapes: tuple[tuple[int, ...], ...],
    stride: int = 1,
    padding: int = 1,
    transpose: bool = False,
    mentions: str = "",
    also: tuple[str, ...] = (),
) -> PlantedFault:
    forward = (_transpose if transpose else _conv)(stride, padding)
    return PlantedFault(
        "conv_transpose2d" if transpose else "conv2d",
        fault,
        kind,
        target,
        forward,
        _with(forward, target, wrong),
        ("x", "weight", "bias"),
        shapes,
        ("weight", "bias"),
        mentions,
        also=also,
    )


_CONV = ((3, 2, 6, 5), (4, 2, 3, 3), (4,))
_SAME_CHANNELS = ((3, 2, 6, 5), (2, 2, 3, 3), (2,))
_STRIDED = ((2, 2, 6, 8), (3, 2, 2, 2), (3,))
_TRANSPOSED = ((3, 2, 4, 5), (2, 3, 3, 3), (3,))
_TRANSPOSED_SAME = ((3, 2, 4, 5), (2, 2, 3, 3), (2,))

_conv11, _conv20, _tr = _conv(1, 1), _conv(2, 0), _transpose(2, 1)


def _without_border(g: Tensor, x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    dx = _vjp(_conv11, g, x, w, b)[0]
    inner = torch.zeros_like(dx)
    inner[:, :, 1:-1, 1:-1] = dx[:, :, 1:-1, 1:-1]
    return inner


def _without_last(g: Tensor, x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    dx = _vjp(_conv11, g, x, w, b)[0].clone()
    dx[:, :, -1] = 0
    dx[:, :, :, -1] = 0
    return dx


def _spoilt_last_row(g: Tensor, x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    dx = _vjp(_conv11, g, x, w, b)[0].clone()
    dx[:, :, -1] += x[:, :, -1]
    return dx


def _one_phase(g: Tensor, x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    dx = torch.zeros_like(x)
    dx[:, :, ::2, ::2] = _vjp(_conv20, g, x, w, b)[0][:, :, ::2, ::2]
    return dx


def _padding_forgotten(g: Tensor, x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    padded = F.conv_transpose2d(g, w)  # The gradient of the padded x, cut at the wrong place.
    return padded[:, :, : x.shape[2], : x.shape[3]]


CONVOLUTIONS = (
    _fault(
        "dW flipped",
        "flipped",
        "weight",
        lambda g, x, w, b: _vjp(_conv11, g, x, w, b)[1].flip(2, 3),
        shapes=_CONV,
        mentions="axis 2",
    ),
    _fault(
        "dx with the kernel not flipped",
        "operand-flipped",
        "x",
        lambda g, x, w, b: _vjp(_conv11, g, x, w.flip(2, 3), b)[0],
        shapes=_CONV,
        mentions="'weight'",
    ),
    _fault(
        "padding forgotten in dx",
        "shifted",
        "x",
        _padding_forgotten,
        shapes=_CONV,
        mentions="+1 along axis 2 (H)",
    ),
    _fault(
        "channels of dW exchanged",
        "channels-swapped",
        "weight",
        lambda g, x, w, b: _vjp(_conv11, g, x, w, b)[1].transpose(0, 1),
        shapes=_SAME_CHANNELS,
        also=("transposed",),
    ),
    _fault(
        "channels of W exchanged in dx",
        "operand-transposed",
        "x",
        lambda g, x, w, b: _vjp(_conv11, g, x, w.transpose(0, 1).contiguous(), b)[0],
        shapes=_SAME_CHANNELS,
    ),
    _fault(
        "border of dx zero",
        "border",
        "x",
        _without_border,
        shapes=_CONV,
        mentions="zero in the place at each end along axis 2 (H) or",
    ),
    _fault("last row and column of dx zero", "edge", "x", _without_last, shapes=_CONV, mentions="zero"),
    _fault(
        "last row of dx wrong",
        "edge",
        "x",
        _spoilt_last_row,
        shapes=_CONV,
        mentions="last place along axis 2 (H)",
    ),
    _fault(
        "one phase of dx",
        "stride-phase",
        "x",
        _one_phase,
        shapes=_STRIDED,
        stride=2,
        padding=0,
        mentions="mod 2",
    ),
    _fault(
        "db averaged over positions",
        "factor",
        "bias",
        lambda g, x, w, b: g.mean((2, 3)).sum(0),
        shapes=_CONV,
        mentions="H·W",
    ),
    _fault(
        "height and width of dW exchanged",
        "transposed",
        "weight",
        lambda g, x, w, b: _vjp(_conv11, g, x, w, b)[1].transpose(2, 3),
        shapes=_CONV,
        mentions="axis 2",
    ),
    _fault(
        "dW of the last sample",
        "one-slice-only",
        "weight",
        lambda g, x, w, b: _vjp(_conv11, g[-1:], x[-1:], w, b)[1],
        shapes=_CONV,
    ),
    _fault(
        "dx with the kernel flipped",
        "operand-flipped",
        "x",
        lambda g, x, w, b: _vjp(_tr, g, x, w.flip(2, 3), b)[0],
        shapes=_TRANSPOSED,
        stride=2,
        transpose=True,
    ),
    _fault(
        "channels of dW exchanged",
        "channels-swapped",
        "weight",
        lambda g, x, w, b: _vjp(_tr, g, x, w, b)[1].transpose(0, 1),
        shapes=_TRANSPOSED_SAME,
        stride=2,
        transpose=True,
        also=("transposed",),
    ),
    _fault(
        "dW rolled by one",
        "rolled",
        "weight",
        lambda g, x, w, b: _vjp(_tr, g, x, w, b)[1].roll(1, 3),
        shapes=_TRANSPOSED,
        stride=2,
        transpose=True,
        also=("reordered",),
    ),
    _fault(
        "dW counted twice",
        "factor",
        "weight",
        lambda g, x, w, b: 2 * _vjp(_tr, g, x, w, b)[1],
        shapes=_TRANSPOSED,
        stride=2,
        transpose=True,
        mentions="large by a factor of 2",
    ),
    _fault(
        "cotangent ignored in dW",
        "cotangent-ignored",
        "weight",
        lambda g, x, w, b: _vjp(_tr, torch.ones_like(g), x, w, b)[1],
        shapes=_TRANSPOSED,
        stride=2,
        transpose=True,
    ),
    _fault(
        "dx zero",
        "zero",
        "x",
        lambda g, x, w, b: torch.zeros_like(x),
        shapes=_TRANSPOSED,
        stride=2,
        transpose=True,
    ),
)
