"""Max and average pooling and the maximum along an axis: where the cotangent should go, and where it goes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from itertools import islice, product

import torch
from torch import Tensor

from nn_from_scratch.verify.diagnosis.constants import (
    HALF_STEP,
    LARGEST_POOLING_KERNEL,
    MOST_GEOMETRIES,
    SPECIFIC,
    TIE_BREAK,
)
from nn_from_scratch.verify.diagnosis.families.operation import Fault, Forward, Operation, with_gradient
from nn_from_scratch.verify.diagnosis.families.windows import Windows
from nn_from_scratch.verify.diagnosis.problem import Problem, plain


def pooling(problem: Problem) -> Iterator[Operation]:
    """Poolings over the last one or two axes that give the cotangent's shape, and maxima along one axis."""
    if problem.unary is None:
        return
    name, x, g = problem.unary[0], plain(problem.unary[1]), problem.unary[2]
    if x.dim() in (3, 4) and g.dim() == x.dim() and g.shape[:2] == x.shape[:2] and g.shape != x.shape:
        for kernel, stride, padding in _geometries(problem, tuple(x.shape[2:]), tuple(g.shape[2:])):
            windows = Windows(tuple(x.shape), kernel, stride, padding)
            yield _max_pooling(name, x, windows)
            yield _average_pooling(name, windows)
    for dim, size in enumerate(x.shape):
        if size > 1 and g.shape in (x.shape[:dim] + x.shape[dim + 1 :], (*x.shape[:dim], 1, *x.shape[dim + 1 :])):
            yield _maximum_along(problem, name, x, dim)


def _max_pooling(name: str, x: Tensor, windows: Windows) -> Operation:
    entries, upside_down = windows.of(x, -torch.inf), windows.of(-x, -torch.inf)
    highest = entries == entries.amax(2, keepdim=True)
    lowest = upside_down == upside_down.amax(2, keepdim=True)
    inside = windows.of(torch.ones_like(x), 0.0)
    first = _one(highest, 2)

    def to(share: Tensor) -> Forward:
        return lambda v, g: with_gradient(v[name], windows.back(share * g.reshape(*g.shape[:2], 1, -1)), g)

    def overwritten(v: Mapping[str, Tensor], g: Tensor) -> Tensor:
        return with_gradient(v[name], windows.last(first * g.reshape(*g.shape[:2], 1, -1)), g)

    spread = "spreads each window's cotangent over the window, while the forward is a maximum"
    everything = "passes each window's cotangent to every entry of the window, not to the maximum alone"
    overlap = "keeps only the last of the overlapping windows where it should add them up"
    start = "goes to the first entry of each window, not to its maximum"
    end = "goes to the last entry of each window, not to its maximum"
    faults = (
        Fault("pool-spread", spread, to(inside / highest.shape[2])),
        Fault("pool-everything", everything, to(inside)),
        Fault("pool-minimum", "goes to the minimum of each window, not to its maximum", to(_one(lowest, 2))),
        Fault("pool-fixed-entry", start, to(_one(inside > 0, 2))),
        Fault("pool-fixed-entry", end, to(_one(inside > 0, 2, last=True))),
        Fault("overlap-overwritten", overlap, overwritten),
        *_tie_faults(highest, 2, to, "a tied window"),
    )
    sure = windows.back(_ties(highest, 2).to(x.dtype)) == 0
    return Operation("a max pooling", to(first), faults, sure=sure)


def _one(mask: Tensor, dim: int, *, last: bool = False) -> Tensor:
    """Of the true entries along an axis, the first or the last alone, as numbers."""
    turned = mask.flip(dim) if last else mask
    chosen = turned & (turned.cumsum(dim) == 1)
    return (chosen.flip(dim) if last else chosen).to(torch.float64)


def _ties(highest: Tensor, dim: int) -> Tensor:
    return highest & (highest.sum(dim, keepdim=True) > 1)


def _tie_faults(highest: Tensor, dim: int, to: Callable[[Tensor], Forward], tie: str) -> Iterator[Fault]:
    """Where the cotangent of a tie may go; conventions differ, so that none but the first is much of a fault."""
    if _ties(highest, dim).any():
        shares = highest.to(torch.float64)
        claim = f"goes in full to every entry of a tie, so that {tie} counts several times"
        yield Fault("ties-duplicated", claim, to(shares))
        for kind, claim, share in (
            ("ties-shared", "is shared evenly among the entries of a tie", shares / shares.sum(dim, keepdim=True)),
            ("ties-first", "goes to the first entry of a tie alone", _one(highest, dim)),
            ("ties-last", "goes to the last entry of a tie alone", _one(highest, dim, last=True)),
        ):
            yield Fault(kind, claim, to(share), SPECIFIC + HALF_STEP)


def _average_pooling(name: str, windows: Windows) -> Operation:
    def spread(v: Mapping[str, Tensor], g: Tensor) -> Tensor:
        return windows.of(v[name], 0.0).mean(2).reshape(g.shape)

    def maximum(v: Mapping[str, Tensor], g: Tensor) -> Tensor:
        return windows.of(v[name], -torch.inf).amax(2).reshape(g.shape)

    def tiled(v: Mapping[str, Tensor], g: Tensor) -> Tensor:
        flat = g.reshape(*windows.image[:2], -1, g.shape[-1])  # (N, C, H or 1, W)
        gradient = flat.repeat(1, 1, *windows.kernel) / math.prod(windows.kernel)
        return with_gradient(v[name], gradient[..., : windows.image[2], : windows.image[3]].reshape(windows.shape), g)

    def by_inside(v: Mapping[str, Tensor], g: Tensor) -> Tensor:
        counts = windows.of(torch.ones_like(v[name]), 0.0).sum(2)
        return (windows.of(v[name], 0.0).sum(2) / counts).reshape(g.shape)

    def entry(place: int, share: float) -> Forward:
        return lambda v, g: share * windows.of(v[name], 0.0)[:, :, place].reshape(g.shape)

    count = math.prod(windows.kernel)
    faults = [Fault("neighbor", "is that of max pooling, while the forward is average pooling", maximum)]
    for word, place in (("first", 0), ("last", count - 1)):
        claim = f"goes to the {word} entry of each window"
        faults.append(Fault("pool-fixed-entry", f"{claim}, not to all", entry(place, 1.0)))
        claim = f"{claim} alone, with the share 1/{count} that each entry should get"
        faults.append(Fault("pool-fixed-entry", claim, entry(place, 1 / count), SPECIFIC - TIE_BREAK))
    if windows.kernel == windows.stride and not any(windows.padding):
        claim = "has the whole cotangent repeated side by side, where each of its entries should be repeated"
        faults.append(Fault("blocks-interleaved", claim, tiled))
    if any(windows.padding):
        claim = "divides by the entries of each window inside of the image, where it should divide by all of them"
        faults.append(Fault("pool-count", claim, by_inside))
    return Operation("an average pooling", spread, tuple(faults))


def _maximum_along(problem: Problem, name: str, x: Tensor, dim: int) -> Operation:
    highest = x == x.amax(dim, keepdim=True)
    first, here = _one(highest, dim), problem.axis(dim)

    def to(share: Tensor) -> Forward:
        return lambda v, g: with_gradient(v[name], share * (g if g.dim() == x.dim() else g.unsqueeze(dim)), g)

    mean = f"is that of the mean along {here}, while the forward is the maximum"
    everything = "passes the cotangent to every entry, not to the maximum alone"
    ones = torch.ones_like(x)
    faults = (
        Fault("pool-fixed-entry", "goes to the first entry, not to the maximum", to(_one(ones > 0, dim))),
        Fault("pool-everything", everything, to(ones)),
        Fault("pool-spread", mean, to(ones / x.shape[dim])),
        *_tie_faults(highest, dim, to, "a tie"),
    )
    return Operation(f"the maximum along {here}", to(first), faults, sure=~_ties(highest, dim))


def _geometries(
    problem: Problem, wide: tuple[int, ...], narrow: tuple[int, ...]
) -> Iterator[tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]:
    """Kernel, stride and padding of a pooling; what the context states is not guessed."""
    context = problem.context
    axes = [
        [
            (k, s, p)
            for k in (
                range(2, LARGEST_POOLING_KERNEL + 1) if context.kernel_size is None else (context.kernel_size[i],)
            )
            for s in (range(1, k + 1) if context.stride is None else (context.stride[i],))
            for p in (range(k // 2 + 1) if context.padding is None else (context.padding[i],))
            if h + 2 * p >= k and (h + 2 * p - k) // s + 1 == n
        ]
        for i, (h, n) in enumerate(zip(wide, narrow, strict=True))
    ]
    square = [choice for choice in product(*axes) if len(set(choice)) == 1]
    for choice in square or list(islice(product(*axes), MOST_GEOMETRIES)):
        kernel, stride, padding = zip(*choice, strict=True)
        yield kernel, stride, padding
