"""Max and average pooling and the maximum along an axis: where the cotangent should go, and where it goes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from nn_from_scratch.verify.diagnosis.families.operation import Family, Fault, Forward, with_gradient
from nn_from_scratch.verify.diagnosis.problem import Problem, plain

__all__ = ["pooling"]

_LARGEST_KERNEL = 5


def pooling(problem: Problem) -> Iterator[Family]:
    """Poolings over the last one or two axes that give the cotangent's shape, and maxima along one axis."""
    context, name, g = problem.context, problem.context.name, problem.context.only_cotangent
    if name is None or g is None or problem.complex or name not in context.tensors or not problem.same_shape:
        return
    x = plain(context.tensors[name])
    if x.dim() in (3, 4) and g.dim() == x.dim() and g.shape[:2] == x.shape[:2] and g.shape != x.shape:
        for kernel, stride, padding in _geometries(problem, tuple(x.shape[2:]), tuple(g.shape[2:])):
            windows = _Windows(tuple(x.shape), kernel, stride, padding)
            yield _max_family(name, x, windows)
            yield _average_family(name, windows)
    for dim in range(x.dim()):
        if (
            g.shape in (x.shape[:dim] + x.shape[dim + 1 :], (*x.shape[:dim], 1, *x.shape[dim + 1 :]))
            and x.shape[dim] > 1
        ):
            yield _maximum_along(problem, name, x, dim)


class _Windows:
    """The windows of one pooling; 1-D is 2-D with a height of one."""

    def __init__(
        self,
        shape: tuple[int, ...],
        kernel: tuple[int, ...],
        stride: tuple[int, ...],
        padding: tuple[int, ...],
    ) -> None:
        flat = len(kernel) == 1
        self.shape = shape
        self.image = (shape[0], shape[1], 1, shape[2]) if flat else shape
        self.kernel = (1, *kernel) if flat else kernel
        self.stride = (1, *stride) if flat else stride
        self.padding = (0, *padding) if flat else padding

    def of(self, x: Tensor, fill: float) -> Tensor:
        """The entries of every window, (N, C, K, P)."""
        (ph, pw) = self.padding
        padded = F.pad(x.reshape(self.image), (pw, pw, ph, ph), value=fill)
        n, c = self.image[:2]
        return F.unfold(padded, self.kernel, stride=self.stride).reshape(n, c, -1, self._positions(padded))

    def _positions(self, padded: Tensor) -> int:
        h, w = padded.shape[2:]
        return ((h - self.kernel[0]) // self.stride[0] + 1) * ((w - self.kernel[1]) // self.stride[1] + 1)

    def back(self, shares: Tensor) -> Tensor:
        """Add (N, C, K, P) shares of the windows to the entries of x that they come from."""
        n = self.image[0]
        columns = shares.reshape(n, -1, shares.shape[-1])
        return F.fold(columns, self.image[2:], self.kernel, padding=self.padding, stride=self.stride).reshape(
            self.shape
        )

    def last(self, shares: Tensor) -> Tensor:
        """Like `back`, but a window that comes later overwrites."""
        positions = torch.arange(1, shares.shape[-1] + 1, dtype=shares.dtype).expand_as(shares)
        rank = torch.where(shares != 0, positions, torch.zeros_like(positions))
        place = torch.arange(1, 1 + int(torch.tensor(self.shape).prod()), dtype=shares.dtype).reshape(self.shape)
        source = self.of(place, 0.0).long()
        latest = torch.zeros(place.numel() + 1, dtype=shares.dtype)
        latest = latest.scatter_reduce(0, source.flatten(), rank.flatten(), "amax")
        wins = (rank == latest[source]) & (rank > 0)
        return self.back(torch.where(wins, shares, torch.zeros_like(shares)))


def _max_family(name: str, x: Tensor, windows: _Windows) -> Family:
    entries = windows.of(x, -torch.inf)
    highest = entries == entries.amax(2, keepdim=True)
    ties = highest & (highest.sum(2, keepdim=True) > 1)
    first, last = _one(highest, last=False), _one(highest, last=True)

    def to(share: Tensor) -> Forward:
        return lambda v, g: with_gradient(v[name], windows.back(share * g.reshape(*g.shape[:2], 1, -1)), g)

    count = highest.shape[2]
    lowest = _one((e := windows.of(x, torch.inf)) == e.amin(2, keepdim=True), last=False)
    inside = windows.of(torch.ones_like(x), 0.0)
    start, end = _one(inside > 0, last=False), _one(inside > 0, last=True)
    faults = [
        Fault(
            "pool-spread",
            "spreads each window's cotangent over the window, while the forward is a maximum",
            to(inside / count),
        ),
        Fault(
            "pool-everything",
            "hands each window's cotangent to every entry of the window, not to the maximum alone",
            to(inside),
        ),
        Fault("pool-minimum", "goes to the minimum of each window, not to its maximum", to(lowest)),
        Fault("pool-fixed-entry", "goes to the first entry of each window, not to its maximum", to(start)),
        Fault("pool-fixed-entry", "goes to the last entry of each window, not to its maximum", to(end)),
        Fault(
            "overlap-overwritten",
            "keeps only the last of the overlapping windows where it should add them up",
            lambda v, g: with_gradient(v[name], windows.last(first * g.reshape(*g.shape[:2], 1, -1)), g),
        ),
    ]
    if ties.any():
        faults += [
            Fault(
                "ties-duplicated",
                "goes in full to every entry of a tie, so that a tied window counts several times",
                to(highest.to(x.dtype)),
            ),
            Fault(
                "ties-shared",
                "is shared evenly among the entries of a tie",
                to(highest / highest.sum(2, keepdim=True)),
                3.5,
            ),
            Fault("ties-first", "goes to the first entry of a tie alone", to(first), 3.5),
            Fault("ties-last", "goes to the last entry of a tie alone", to(last), 3.5),
        ]
    sure = windows.back(ties.to(x.dtype)) == 0
    return Family("a max pooling", to(first), tuple(faults), sure=sure)


def _one(mask: Tensor, *, last: bool) -> Tensor:
    """Of the true entries along axis 2, the first or the last alone, as numbers."""
    turned = mask.flip(2) if last else mask
    chosen = turned & (turned.cumsum(2) == 1)
    return (chosen.flip(2) if last else chosen).to(torch.float64)


def _average_family(name: str, windows: _Windows) -> Family:
    def spread(v: dict[str, Tensor], g: Tensor) -> Tensor:
        return windows.of(v[name], 0.0).mean(2).reshape(g.shape)

    def maximum(v: dict[str, Tensor], g: Tensor) -> Tensor:
        return windows.of(v[name], -torch.inf).amax(2).reshape(g.shape)

    def first(v: dict[str, Tensor], g: Tensor) -> Tensor:
        return windows.of(v[name], 0.0)[:, :, 0].reshape(g.shape)

    return Family(
        "an average pooling",
        spread,  # type: ignore[arg-type]
        (
            Fault("neighbour", "is that of max pooling, while the forward is average pooling", maximum),  # type: ignore[arg-type]
            Fault("pool-fixed-entry", "goes to the first entry of each window, not to all", first),  # type: ignore[arg-type]
        ),
    )


def _maximum_along(problem: Problem, name: str, x: Tensor, dim: int) -> Family:
    highest = x == x.amax(dim, keepdim=True)
    count = highest.sum(dim, keepdim=True)

    def to(share: Tensor) -> Forward:
        return lambda v, g: with_gradient(v[name], share * (g if g.dim() == x.dim() else g.unsqueeze(dim)), g)

    first = (highest & (highest.cumsum(dim) == 1)).to(x.dtype)
    start = torch.zeros_like(x)
    start.select(dim, 0).fill_(1.0)
    faults = [
        Fault("pool-fixed-entry", "goes to the first entry, not to the maximum", to(start)),
        Fault(
            "pool-everything",
            "hands the cotangent to every entry, not to the maximum alone",
            to(torch.ones_like(x)),
        ),
        Fault(
            "pool-spread",
            f"is that of the mean along {problem.axis(dim)}, while the forward is the maximum",
            to(torch.full_like(x, 1 / x.shape[dim])),
        ),
    ]
    if (count > 1).any():
        faults += [
            Fault(
                "ties-duplicated",
                "goes in full to every entry of a tie, so that a tie counts several times",
                to(highest.to(x.dtype)),
            ),
            Fault("ties-shared", "is shared evenly among the entries of a tie", to(highest / count), 3.5),
            Fault("ties-first", "goes to the first entry of a tie alone", to(first), 3.5),
        ]
    return Family(f"the maximum along {problem.axis(dim)}", to(first), tuple(faults), sure=~(highest & (count > 1)))


def _geometries(
    problem: Problem, wide: tuple[int, ...], narrow: tuple[int, ...]
) -> Iterator[tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]:
    """Kernel, stride and padding of a pooling; what the context states is not guessed."""
    context = problem.context
    axes = [
        [
            (k, s, p)
            for k in (range(2, _LARGEST_KERNEL + 1) if context.kernel_size is None else (context.kernel_size[i],))
            for s in (range(1, k + 1) if context.stride is None else (context.stride[i],))
            for p in (range(k // 2 + 1) if context.padding is None else (context.padding[i],))
            if h + 2 * p >= k and (h + 2 * p - k) // s + 1 == n
        ]
        for i, (h, n) in enumerate(zip(wide, narrow, strict=True))
    ]
    square = [choice for choice in product(*axes) if len(set(choice)) == 1]
    for choice in square or list(product(*axes))[:64]:
        kernel, stride, padding = zip(*choice, strict=True)
        yield kernel, stride, padding
