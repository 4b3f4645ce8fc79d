"""Max pooling and average pooling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.unit.verify.planted.fault import PlantedFault, of_one_input

Shares = Callable[[Tensor], Tensor]


def _windows(x: Tensor, kernel: int, stride: int) -> Tensor:
    """(N, C, K, P)"""
    return F.unfold(x, kernel, stride=stride).reshape(*x.shape[:2], kernel * kernel, -1)


def _backward(shares: Shares, kernel: int, stride: int) -> Callable[[Tensor, Tensor], Tensor]:
    """Give each window's cotangent to its entries by `shares` of (N, C, K, P) entries."""

    def backward(g: Tensor, x: Tensor) -> Tensor:
        parts = shares(_windows(x, kernel, stride)) * g.reshape(*g.shape[:2], 1, -1)
        columns = parts.reshape(len(x), -1, parts.shape[-1])
        return F.fold(columns, x.shape[2:], kernel, stride=stride)

    return backward


def _highest(entries: Tensor) -> Tensor:
    return F.one_hot(entries.argmax(2), entries.shape[2]).movedim(-1, 2).to(entries.dtype)


def _lowest(entries: Tensor) -> Tensor:
    return _highest(-entries)


def _first(entries: Tensor) -> Tensor:
    return _highest(-torch.arange(entries.shape[2]).reshape(1, 1, -1, 1).expand_as(entries))


def _overwriting(g: Tensor, x: Tensor) -> Tensor:
    dx = torch.zeros_like(x)
    for n in range(x.shape[0]):
        for c in range(x.shape[1]):
            for i in range(g.shape[2]):
                for j in range(g.shape[3]):
                    place = int(x[n, c, i : i + 3, j : j + 3].argmax())
                    dx[n, c, i + place // 3, j + place % 3] = g[n, c, i, j]
    return dx


def _levels(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Few levels, so that windows have ties."""
    return torch.randint(0, 4, shape, generator=generator).to(torch.float64)


def _max(
    fault: str, kind: str, dx: Callable[[Tensor, Tensor], Tensor], *, kernel: int = 2, stride: int = 2, **options: Any
) -> PlantedFault:
    return of_one_input(
        "max_pool2d", fault, kind, lambda x: F.max_pool2d(x, kernel, stride), dx, (2, 2, 6, 6), **options
    )


def _upsampling(fault: str, dx: Callable[[Tensor, Tensor], Tensor], **options: Any) -> PlantedFault:
    def twice(x: Tensor) -> Tensor:
        return x.repeat_interleave(2, 2).repeat_interleave(2, 3)

    return of_one_input("upsample", fault, "cotangent-subsampled", twice, dx, (2, 3, 4, 3), **options)


def _not_counted(g: Tensor, x: Tensor) -> Tensor:
    inside = F.avg_pool2d(torch.ones_like(x), 3, 2, 1)  # the share of each window inside of the image
    leaf = x.detach().clone().requires_grad_()
    with torch.enable_grad():
        (dx,) = torch.autograd.grad(F.avg_pool2d(leaf, 3, 2, 1), leaf, g / inside)
    return dx


def _spread(entries: Tensor) -> Tensor:
    return torch.full_like(entries, 1 / entries.shape[2])


_of_maximum = _backward(_highest, 2, 2)

POOLING = (
    _max("average pooling's backward", "pool-spread", _backward(_spread, 2, 2)),
    _max("every entry of the window", "pool-everything", _backward(torch.ones_like, 2, 2)),
    _max("the minimum", "pool-minimum", _backward(_lowest, 2, 2)),
    _max("the first entry", "pool-fixed-entry", _backward(_first, 2, 2)),
    _max("overlapping windows overwritten", "overlap-overwritten", _overwriting, kernel=3, stride=1),
    _max(
        "ties counted several times",
        "ties-duplicated",
        _backward(lambda e: (e == e.amax(2, keepdim=True)).to(e.dtype), 2, 2),
        draw=_levels,
    ),
    _max("negated", "sign", lambda g, x: -_of_maximum(g, x)),
    _max("height and width exchanged", "transposed", lambda g, x: _of_maximum(g, x).transpose(2, 3)),
    _max("shifted by one", "rolled", lambda g, x: _of_maximum(g, x).roll(1, 3), also=("shifted",)),
    _upsampling(
        "one of four entries", lambda g, x: g[:, :, ::2, ::2], mentions="the first entry alone of each block of 2×2"
    ),
    _upsampling("the last of four entries, times four", lambda g, x: 4 * g[:, :, 1::2, 1::2], mentions="factor of 4"),
    of_one_input(
        "upsample",
        "sum over entries that lie apart",
        "blocks-interleaved",
        lambda x: x.repeat_interleave(2, 2),
        lambda g, x: g.reshape(2, 3, 2, 4, 3).sum(2),
        (2, 3, 4, 3),
    ),
    of_one_input(
        "avg_pool2d",
        "tiled",
        "blocks-interleaved",
        lambda x: F.avg_pool2d(x, 2),
        lambda g, x: g.repeat(1, 1, 2, 2) / 4,
        (2, 3, 6, 6),
        also=("slice",),
    ),
    of_one_input(
        "avg_pool2d",
        "padding not counted",
        "pool-count",
        lambda x: F.avg_pool2d(x, 3, 2, 1),
        _not_counted,
        (2, 2, 6, 6),
        also=("edge",),
    ),
    of_one_input(
        "avg_pool2d",
        "the first entry of each window",
        "pool-fixed-entry",
        lambda x: F.avg_pool2d(x, 3),
        _backward(lambda entries: _first(entries).to(entries.dtype) / 9, 3, 3),
        (2, 2, 6, 6),
        mentions="first entry of each window alone, with the share 1/9",
        also=("stride-phase",),
    ),
    of_one_input(
        "avg_pool2d",
        "window's size forgotten",
        "factor",
        lambda x: F.avg_pool2d(x, 3),
        _backward(torch.ones_like, 3, 3),
        (2, 2, 6, 6),
        mentions="factor of 9",
    ),
)
