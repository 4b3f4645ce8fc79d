"""The factor between two gradients, and its name in this experiment: N, H·W, the number of uses, a constant."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from nn_from_scratch.verify.diagnosis.constants import COMMON_FACTORS, MOST_LISTED, TINY
from nn_from_scratch.verify.diagnosis.problem import Problem, UncertainTensor

_CONSTANTS = (
    (1 / math.log(2.0), "1/ln 2, the step between logarithms to base e and to base 2"),
    (math.log(10.0), "ln 10, the step between logarithms to base e and to base 10"),
    (math.sqrt(2.0), "the square root of 2"),
    (math.pi, "π"),
)


@dataclass(frozen=True)
class Factor:
    """A factor between two gradients.

    Attributes:
        value: The factor, with its sign.
        names: What has this size, or its inverse, in the experiment.
        known: Whether the value was recognized, and not just fitted.
    """

    value: float
    names: tuple[str, ...] = ()
    known: bool = False

    def __str__(self) -> str:
        """Such as "is too large by a factor of 4, which is here N, the batch size"."""
        if self.value == -1:
            return "has the wrong sign"
        size = abs(self.value)
        ratio = f"{max(size, 1 / size):.6g}"
        # Six digits of 1 + 3e-8 are "1", which says nothing.
        by = f"a share of {abs(size - 1):.2g}" if ratio == "1" else f"a factor of {ratio}"
        words = f"is too {'large' if size > 1 else 'small'} by {by}"
        if self.names:
            words += ", which is here " + ", and also ".join(self.names[:MOST_LISTED])
        return words + (", and has the wrong sign" if self.value < 0 else "")

    @property
    def details(self) -> dict[str, object]:
        """Figures for a diagnosis."""
        return {"factor": self.value, "names": self.names}


def any_factor(observed: Tensor, truth: UncertainTensor, problem: Problem) -> Factor | None:
    """The factor c of observed = c·truth, or None if no c meets every entry.

    The best is the least-squares one, weighted with the allowed errors. All c that are consistent with each entry on
    its own form an interval, and a number inside it that has a name is as good as the best.
    """
    interval = _interval(observed, truth)
    return None if interval is None else _named(problem, *interval)


def special_factor(
    observed: Tensor, truth: UncertainTensor, problem: Problem, speaks: Tensor | None = None
) -> Factor | None:
    """The same, but -1 wherever it may be that, and None where it may be 1.

    With `speaks` (bool, of the same shape), the other entries may be anything.
    """
    if speaks is not None:
        observed, truth = observed[speaks], truth.rearranged(lambda t: t[speaks])
    interval = _interval(observed, truth)
    if interval is None or interval[0] <= 1 <= interval[2]:
        return None
    return Factor(-1.0, known=True) if interval[0] <= -1 <= interval[2] else _named(problem, *interval)


def _interval(observed: Tensor, truth: UncertainTensor) -> tuple[float, float, float] | None:
    """The least, the best and the greatest factor; None if there is none."""
    weight = 1 / truth.allowed.clamp(min=TINY)
    scale = (truth.value * weight).abs().max().clamp(min=TINY)
    weighted = truth.value * weight / scale
    power = (weighted * weighted).sum()
    if not power > 0 or not observed.isfinite().all():
        return None
    best = float(((observed * weight / scale) * weighted).sum() / power)
    if best == 0:
        return None
    slack = truth.scaled(best).allowed
    usable = truth.value.abs() > 2 * truth.allowed
    if not ((observed - best * truth.value).abs() <= 2 * slack).all() or not usable.any():
        return None
    center, width = (observed / truth.value)[usable], (slack / truth.value.abs())[usable]
    least, greatest = float((center - width).max()), float((center + width).min())
    return (least, best, greatest) if least <= greatest else None


@dataclass(frozen=True)
class _Quantity:
    value: float
    name: str
    strong: bool = True


def _quantities(problem: Problem) -> Iterator[_Quantity]:
    """Numbers above 1 with a name; a weak one is no sufficient reason for a small factor."""
    context = problem.context
    if context.batch_size is not None:
        yield _Quantity(float(context.batch_size), "N, the batch size")
    if any(not g.dim() for g in context.cotangents.values()):
        yield _Quantity(2.0, "the exponent of a square")
    if context.uses is not None:
        yield _Quantity(float(context.uses), "the number of uses")
    for name, sizes in _shapes(problem):
        dims = len(sizes)
        if dims > 1:
            yield _Quantity(float(math.prod(sizes)), f"the number of entries of {name}")
        if dims >= 3:
            rows = f"the number of rows (all axes but the last) of {name}"
            yield _Quantity(float(math.prod(sizes[:-1])), rows, strong=False)
            yield from _places(name, sizes, context.images)
        for axis, size in enumerate(sizes):
            if axis or size != context.batch_size:
                called = problem.axis(axis) if name == "the gradient" else f"axis {axis}"
                yield _Quantity(float(size), f"the size of {called} of {name}", strong=False)
    if context.kernel_size is not None:
        yield _Quantity(float(math.prod(context.kernel_size)), "the number of entries of the kernel")
    if context.stride is not None:
        yield _Quantity(float(math.prod(context.stride)), "the product of the strides")
    for name, value in context.constants.items():
        if value:
            yield _Quantity(max(abs(value), 1 / abs(value)), f"{name} or its inverse")
    for value, name in _CONSTANTS:
        yield _Quantity(value, name)


def _places(name: str, sizes: tuple[int, ...], images: bool | None) -> Iterator[_Quantity]:
    """How many places an image has; of anything else, how many entries for each of the first two axes."""
    dims, places = len(sizes), math.prod(sizes[2:])
    if images is False:
        yield _Quantity(float(places), f"the product of the sizes of {name} from axis 2 on")
        return
    letters = "·".join("DHW"[5 - dims :]) if dims <= 5 else "positions"
    yield _Quantity(float(places), f"the number of positions, {letters}, of {name}")
    yield _Quantity(float(sizes[0] * places), f"the number of samples times positions of {name}")


def _shapes(problem: Problem) -> Iterator[tuple[str, tuple[int, ...]]]:
    context, shape = problem.context, problem.numeric.shape
    yield "the gradient", tuple(shape[:-1] if problem.complex else shape)
    for name, cotangent in context.cotangents.items():
        if cotangent.dim() and cotangent.shape != problem.numeric.shape:
            yield f"the output {name!r}", tuple(cotangent.shape[:-1] if name in context.pairs else cotangent.shape)
    for name, tensor in context.tensors.items():
        if name != context.name and tensor.dim() and tensor.shape != problem.numeric.shape:
            yield f"{name!r}", tuple(tensor.shape[:-1] if name in context.pairs else tensor.shape)


def _with_derived(problem: Problem) -> Iterator[_Quantity]:
    """A count n also gives n/(n-1), between a biased and an unbiased variance, and its square root."""
    for quantity in _quantities(problem):
        yield quantity
        n = quantity.value
        if n > 2 and n == int(n):
            yield _Quantity(n / (n - 1), f"n/(n-1) where n is {quantity.name}", strong=False)
            yield _Quantity(math.sqrt(n), f"the square root of {quantity.name}", strong=False)


def _named(problem: Problem, least: float, best: float, greatest: float) -> Factor:
    """The one known number inside an interval, with its names; the best, unnamed, if none or several are."""
    inside: dict[float, list[_Quantity]] = {}
    for quantity in (*_with_derived(problem), *(_Quantity(value, "", strong=False) for value in COMMON_FACTORS)):
        n = quantity.value
        for value in (n, -n, 1 / n, -1 / n) if n > 1 else ():
            if least <= value <= greatest:
                inside.setdefault(value, []).append(quantity)
    if len(inside) != 1:
        return Factor(best)
    ((value, quantities),) = inside.items()
    named = [quantity for quantity in quantities if quantity.name]
    if max(abs(value), 1 / abs(value)) in COMMON_FACTORS and not any(quantity.strong for quantity in named):
        return Factor(value, known=True)
    return Factor(value, tuple(dict.fromkeys(quantity.name for quantity in named)), known=True)
