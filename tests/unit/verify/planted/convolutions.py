"""Convolutions and transposed convolutions, written with autograd of the plain forward and then spoiled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.unit.verify.planted.fault import Backward, PlantedFault

Gradients = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


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


@dataclass(frozen=True)
class _Layer:
    """One layer with its shapes; `planted` spoils its backward."""

    name: str
    forward: Callable[..., Tensor]
    shapes: tuple[tuple[int, ...], ...]

    def planted(
        self, fault: str, kind: str, target: str, wrong: Gradients, mentions: str = "", also: tuple[str, ...] = ()
    ) -> PlantedFault:
        backward, names = _with(self.forward, target, wrong), ("x", "weight", "bias")
        return PlantedFault(
            self.name, fault, kind, target, self.forward, backward, names, self.shapes, names[1:], mentions, also=also
        )


def _conv(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return F.conv2d(x, w, b, padding=1)


def _strided_conv(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return F.conv2d(x, w, b, stride=2)


def _transpose(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return F.conv_transpose2d(x, w, b, stride=2, padding=1)


def _reflected_conv(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), w, b)


def _dilated_conv(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return F.conv2d(x, w, b, dilation=2)


_CONV = _Layer("conv2d", _conv, ((3, 2, 6, 5), (4, 2, 3, 3), (4,)))
_SAME_CHANNELS = _Layer("conv2d", _conv, ((3, 2, 6, 5), (2, 2, 3, 3), (2,)))
_STRIDED = _Layer("conv2d", _strided_conv, ((2, 2, 6, 8), (3, 2, 2, 2), (3,)))
_REFLECTED = _Layer("reflected conv2d", _reflected_conv, ((2, 2, 6, 5), (3, 2, 3, 3), (3,)))
_DILATED = _Layer("conv2d", _dilated_conv, ((2, 2, 7, 8), (3, 2, 3, 3), (3,)))
_TRANSPOSED = _Layer("conv_transpose2d", _transpose, ((3, 2, 4, 5), (2, 3, 3, 3), (3,)))
_TRANSPOSED_SAME = _Layer("conv_transpose2d", _transpose, ((3, 2, 4, 5), (2, 2, 3, 3), (2,)))


def _without_border(g: Tensor, x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    dx = _vjp(_conv, g, x, w, b)[0]
    inner = torch.zeros_like(dx)
    inner[:, :, 1:-1, 1:-1] = dx[:, :, 1:-1, 1:-1]
    return inner


def _without_last(g: Tensor, x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    dx = _vjp(_conv, g, x, w, b)[0].clone()
    dx[:, :, -1] = 0
    dx[:, :, :, -1] = 0
    return dx


def _spoiled_last_row(g: Tensor, x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    dx = _vjp(_conv, g, x, w, b)[0].clone()
    dx[:, :, -1] += x[:, :, -1]
    return dx


def _one_phase(g: Tensor, x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    dx = torch.zeros_like(x)
    dx[:, :, ::2, ::2] = _vjp(_strided_conv, g, x, w, b)[0][:, :, ::2, ::2]
    return dx


def _padding_forgotten(g: Tensor, x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    padded = F.conv_transpose2d(g, w)  # The gradient of the padded x, cut at the wrong place.
    return padded[:, :, : x.shape[2], : x.shape[3]]


def _kernel(g: Tensor, x: Tensor, w: Tensor, stride: int = 1, dilation: int = 1) -> Tensor:
    """The products of g with the windows of x, each of them at its place, as a loop over the kernel sums them."""
    wide = F.pad(x, (0, 8, 0, 8))
    height, width = (stride * (n - 1) + 1 for n in g.shape[2:])
    places = [
        [
            torch.einsum("nohw,nihw->oi", g, wide[:, :, i : i + height : stride, j : j + width : stride])
            for j in range(0, dilation * w.shape[3], dilation)
        ]
        for i in range(0, dilation * w.shape[2], dilation)
    ]
    return torch.stack([torch.stack(row, -1) for row in places], -2)


def _padding_forgotten_in_dw(g: Tensor, x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return _kernel(g, x, w)


def _stride_forgotten_in_dw(g: Tensor, x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return _kernel(g, x, w)


def _dilation_forgotten_in_dw(g: Tensor, x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return _kernel(g, x, w)


def _stride_forgotten(g: Tensor, x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return _filled(F.conv_transpose2d(g, w), x)


def _dilation_forgotten(g: Tensor, x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return _filled(F.conv_transpose2d(g, w), x)


def _filled(dx: Tensor, x: Tensor) -> Tensor:
    return F.pad(dx, (0, x.shape[3] - dx.shape[3], 0, x.shape[2] - dx.shape[2]))


def _transposed_padding_forgotten(g: Tensor, x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return F.conv2d(F.pad(g, (0, 2, 0, 2)), w, stride=2)[:, :, : x.shape[2], : x.shape[3]]


def _overwritten(g: Tensor, x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    dx = torch.zeros(x.shape[0], x.shape[1], x.shape[2] + 2, x.shape[3] + 2, dtype=x.dtype)
    for i in range(g.shape[2]):
        for j in range(g.shape[3]):
            dx[:, :, i : i + 3, j : j + 3] = torch.einsum("no,oikl->nikl", g[:, :, i, j], w)
    return dx[:, :, 1:-1, 1:-1]


def _weight_reshaped(g: Tensor, x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    columns = w.reshape(-1, w.shape[0]) @ g.flatten(2)  # (N, I·K, P)
    return F.fold(columns, x.shape[2:], w.shape[2:], padding=1)


def _cotangent_reshaped(g: Tensor, x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    columns = F.unfold(x, w.shape[2:], padding=1).transpose(0, 1).flatten(1)  # (I·K, N·P)
    return (g.reshape(g.shape[1], -1) @ columns.T).reshape(w.shape)


def _dx(forward: Callable[..., Tensor], weight: Callable[[Tensor], Tensor]) -> Gradients:
    """The gradient of x for another weight."""
    return lambda g, x, w, b: _vjp(forward, g, x, weight(w), b)[0]


def _dw(forward: Callable[..., Tensor], change: Callable[[Tensor], Tensor]) -> Gradients:
    """The gradient of the weight, changed."""
    return lambda g, x, w, b: change(_vjp(forward, g, x, w, b)[1])


def _turned(w: Tensor) -> Tensor:
    return w.flip(2, 3)


def _exchanged(w: Tensor) -> Tensor:
    return w.transpose(0, 1).contiguous()


def _averaged(g: Tensor, x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return g.mean((2, 3)).sum(0)


def _last_sample(g: Tensor, x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return _vjp(_conv, g[-1:], x[-1:], w, b)[1]


def _cotangent_ignored(g: Tensor, x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return _vjp(_transpose, torch.ones_like(g), x, w, b)[1]


_ENDS = "zero in the place at each end along axis 2"
_ROW = "last place along axis 2"
_SWAPPED = ("channels-swapped", "weight")

CONVOLUTIONS = (
    _CONV.planted("dW flipped", "flipped", "weight", _dw(_conv, _turned), "axis 2"),
    _CONV.planted("dx with the kernel not flipped", "operand-flipped", "x", _dx(_conv, _turned), "'weight'"),
    _CONV.planted(
        "padding forgotten in dx", "wrong-geometry", "x", _padding_forgotten, "padding of (1, 1)", ("shifted",)
    ),
    _CONV.planted("padding forgotten in dW", "wrong-geometry", "weight", _padding_forgotten_in_dw, "padding of (1, 1)"),
    _CONV.planted("overlapping windows overwritten", "overlap-overwritten", "x", _overwritten),
    _CONV.planted("weight reshaped, not transposed", "operand-reshaped", "x", _weight_reshaped, "'weight' reshaped"),
    _CONV.planted("cotangent reshaped, not transposed", "cotangent-reshaped", "weight", _cotangent_reshaped),
    _STRIDED.planted(
        "stride forgotten in dx", "wrong-geometry", "x", _stride_forgotten, "stride of (2, 2)", also=("edge",)
    ),
    _STRIDED.planted("stride forgotten in dW", "wrong-geometry", "weight", _stride_forgotten_in_dw, "stride of (2, 2)"),
    _DILATED.planted(
        "dilation forgotten in dx", "wrong-geometry", "x", _dilation_forgotten, "dilation of (2, 2)", also=("edge",)
    ),
    _DILATED.planted(
        "dilation forgotten in dW", "wrong-geometry", "weight", _dilation_forgotten_in_dw, "dilation of", also=("edge",)
    ),
    _TRANSPOSED.planted("padding forgotten in dx", "wrong-geometry", "x", _transposed_padding_forgotten, "padding of"),
    _SAME_CHANNELS.planted("channels of dW exchanged", *_SWAPPED, _dw(_conv, _exchanged), also=("transposed",)),
    _SAME_CHANNELS.planted("channels of W exchanged in dx", "operand-transposed", "x", _dx(_conv, _exchanged)),
    _CONV.planted("border of dx zero", "border", "x", _without_border, _ENDS),
    _CONV.planted("last row and column of dx zero", "edge", "x", _without_last, "zero"),
    _CONV.planted("last row of dx wrong", "edge", "x", _spoiled_last_row, _ROW),
    _REFLECTED.planted(
        "zeros for reflections",
        "option-forgotten",
        "x",
        lambda g, x, w, b: _vjp(_conv, g, x, w, b)[0],
        "mode='reflect'",
        also=("stride-phase", "slice"),
    ),
    _STRIDED.planted("one phase of dx", "stride-phase", "x", _one_phase, "mod 2"),
    _CONV.planted("db averaged over positions", "factor", "bias", _averaged, "H·W"),
    _CONV.planted(
        "height and width of dW exchanged", "transposed", "weight", _dw(_conv, lambda w: w.transpose(2, 3)), "axis 2"
    ),
    _CONV.planted("dW of the last sample", "one-slice-only", "weight", _last_sample),
    _TRANSPOSED.planted("dx with the kernel flipped", "operand-flipped", "x", _dx(_transpose, _turned)),
    _TRANSPOSED_SAME.planted("channels of dW exchanged", *_SWAPPED, _dw(_transpose, _exchanged), also=("transposed",)),
    _TRANSPOSED.planted(
        "dW rolled by one", "rolled", "weight", _dw(_transpose, lambda w: w.roll(1, 3)), also=("reordered",)
    ),
    _TRANSPOSED.planted(
        "dW counted twice", "factor", "weight", _dw(_transpose, lambda w: 2 * w), "large by a factor of 2"
    ),
    _TRANSPOSED.planted("cotangent ignored in dW", "cotangent-ignored", "weight", _cotangent_ignored),
    _TRANSPOSED.planted("dx zero", "zero", "x", lambda g, x, w, b: torch.zeros_like(x)),
)
