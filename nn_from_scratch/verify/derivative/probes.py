"""A subject along a line through its point: φ(t) = <v, f(x + t u)> for several cotangents v at once."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache, partial

import torch
from torch import Tensor

from nn_from_scratch.verify.context import CheckContext
from nn_from_scratch.verify.derivative.differences import START, Derivative, differentiate, noise_level, ridders
from nn_from_scratch.verify.derivative.linearization import LinearizationPoint

__all__ = ["DirectionalProbe", "directional", "directions", "magnitude"]

_TARGET = 1e-10
_STAIRS = (1e-11, 1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2)
_STAIRS_A_STEP = 1e3
_CLOSE = 1e-5
_FARTHER = 4.0
_FARTHER_STEPS = 30
_COARSEST = 1e-2
_SIGNS = 4


class DirectionalProbe:
    """φ along a direction, for each cotangent of a point; every value is computed once.

    Args:
        point: Where the line starts.
        slot: The tensor that moves.
        direction: u, of the tensor's shape, in float64.
        context: Gives the deadline.
    """

    def __init__(
        self,
        point: LinearizationPoint,
        slot: str,
        direction: Tensor,
        context: CheckContext,
    ) -> None:
        self.point, self.slot, self.direction, self.context = point, slot, direction, context
        self.cotangents = point.cotangents
        signs = _signs(point.outputs.numel(), point.outputs.device)
        self._rows = (self.cotangents.unsqueeze(1) * signs).flatten(0, 1)
        self.x = point.values[slot]
        self.u = direction.to(self.x.dtype)
        self._changes: dict[float, list[float]] = {}
        self._noise: dict[tuple[int, float], float] = {}
        self._roundings: dict[int, float] = {}
        self._quantization_step: float | None = None
        self._coarseness: float | None = None

    def outputs(self, t: float) -> Tensor:
        """f(x + t u) as a float64 vector."""
        self.context.require_time()
        return self.point.at(self.slot, torch.add(self.x, self.u, alpha=t))

    def change(self, row: int, t: float) -> float:
        """Δ(t) = φ(t) - φ(0) for one cotangent.

        The difference is taken before the sum, so that its rounding error is that of the change.
        """
        if t not in self._changes:
            moved = self.outputs(t)
            if self._coarseness is None:
                double = all(y.dtype == torch.float64 for y in self.point.named_outputs.values())
                self._coarseness = _coarseness(moved) if double else 1.0
            difference = moved - self.point.outputs
            self._changes[t] = torch.mv(self._rows, difference).tolist()
        return self._changes[t][row * _SIGNS]

    @property
    def coarseness(self) -> float:
        """How much coarser the outputs are rounded than float64 is, where their own dtype does not say so."""
        if self._coarseness is None:
            self.change(0, START)
        return self._coarseness or 1.0

    @property
    def coarse(self) -> bool:
        """Whether the subject computes in something coarser than float64."""
        eps = torch.finfo(self.x.dtype).eps * self.coarseness
        return eps > torch.finfo(torch.float64).eps or self.quantization_step() > 0 or self._absorbed(0) > 0

    def probes(self, row: int, t: float) -> list[float]:
        """The same change for cotangents of other signs."""
        self.change(row, t)
        return self._changes[t][row * _SIGNS + 1 : (row + 1) * _SIGNS]

    def noise(self, row: int, start: float) -> float:
        """The standard error of one value of Δ: rounding of the outputs, measured noise, and nondeterminism."""
        start = min(start, START)
        if (row, start) not in self._noise:
            measured = noise_level(partial(self.change, row), _CLOSE * start)
            self._noise[row, start] = max(
                measured, self.point.nondeterminism(row), self.rounding(row), self._absorbed(row)
            )
        return self._noise[row, start]

    def rounding(self, row: int) -> float:
        """The standard error of φ from the rounding of its outputs and of the tensor that moves.

        Outputs that do not change count as well: they may change by less than they can hold.
        """
        if row not in self._roundings:
            gradient = self.point.gradients[row][self.slot] if self.point.gradients else None
            moved = 0.0
            if gradient is not None and gradient.shape == self.x.shape:
                reach = float(torch.linalg.vector_norm(gradient.detach().double() * self.x.double()))
                moved = 0.5 * torch.finfo(self.x.dtype).eps * reach if math.isfinite(reach) else 0.0
            self._roundings[row] = self.coarseness * math.hypot(self.point.rounding(row), moved)
        return self._roundings[row]

    def _absorbed(self, row: int) -> float:
        """How far φ jumps where it first moves, if it does not move at the usual steps; 0 for any other.

        The outputs are then rounded more coarsely than their dtype says, and absorb the change.
        """
        change = partial(self.change, row)
        if change(START) or change(-START):
            return 0.0
        natural = float(torch.linalg.vector_norm(self.cotangents[row] * self.point.outputs))
        t = START
        for _ in range(_FARTHER_STEPS):
            t *= _FARTHER
            jump = abs(change(t))
            if jump:
                return jump if math.isfinite(jump) and jump <= _COARSEST * natural else 0.0
        return 0.0

    def derivative(self, row: int, scale: float) -> Derivative | None:
        """φ'(0) for one cotangent; None if φ is finite nowhere near 0.

        Args:
            row: Which cotangent.
            scale: The size that a derivative along this line has, from the analytic gradient; it says which error
                is good enough.
        """
        return differentiate(
            partial(self.change, row),
            partial(self.noise, row),
            target=lambda value: _TARGET * max(abs(value), scale),
            finest=self.finest,
            rounding=max(self.rounding(row), self._absorbed(row) if scale else 0.0),
            probes=partial(self.probes, row),
        )

    def quantization_step(self) -> float:
        """The relative change below which half of the outputs do not move at all, though they do for larger ones.

        That is what a forward looks like that rounds to a coarser dtype inside; 0 for any other. (A function that is
        constant over more than the coarsest dtype's width has a derivative of 0, not a staircase.)
        """
        if self._quantization_step is None:
            self._quantization_step = 0.0
            moving = self.outputs(START) != self.point.outputs
            count = int(moving.sum())
            for t in _STAIRS:
                moved = int(((self.outputs(t) != self.point.outputs) & moving).sum())
                if 2 * moved >= count:
                    # On a real staircase the next steps follow at once; near a single edge they do not.
                    again = int(((self.outputs(8 * t) != self.outputs(16 * t)) & moving).sum())
                    self._quantization_step = t if t > _STAIRS[0] and 2 * again >= count else 0.0
                    break
        return self._quantization_step

    def finest(self) -> float:
        """The smallest start of a table that is well above the width of a quantization_step; mostly 0."""
        return min(_STAIRS_A_STEP * self.quantization_step(), START)

    def table(self, row: int, start: float) -> Derivative | None:
        """One table with a given largest step."""
        change = partial(self.change, row)
        if not (math.isfinite(change(start)) and math.isfinite(change(-start))):
            return None
        return ridders(change, start, self.noise(row, start), partial(self.probes, row))


def _coarseness(outputs: Tensor) -> float:
    """Whether every output at a point that was moved at random is a float32 number; integers do not count."""
    if not torch.equal(outputs.float().double(), outputs) or torch.equal(outputs.round(), outputs):
        return 1.0
    return float(torch.finfo(torch.float32).eps / torch.finfo(torch.float64).eps)


@lru_cache(maxsize=8)
def _signs(count: int, device: torch.device) -> Tensor:
    """Four patterns of signs, orthogonal to each other: ++++..., +-+-..., ++--..., ++++----..."""
    index = torch.arange(count, device=device)
    patterns = [1.0 - 2.0 * ((index >> k) & 1).to(torch.float64) for k in range(_SIGNS - 1)]
    return torch.stack([torch.ones_like(patterns[0]), *patterns])


def magnitude(x: Tensor) -> float:
    """The typical size of a tensor's entries: the mean |x| of the finite ones, 1 for a tensor of zeros."""
    size = float(x.abs().mean(dtype=torch.float64)) if x.numel() else 0.0
    if not math.isfinite(size):
        finite = x[torch.isfinite(x)]
        size = float(finite.abs().mean(dtype=torch.float64)) if finite.numel() else 0.0
    return size if size > 0 and math.isfinite(size) else 1.0


def directions(x: Tensor, slot: str, context: CheckContext, *names: object) -> Iterator[tuple[str, Tensor]]:
    """Dense signed directions for a tensor, seeded by its name.

    "even" moves every entry by about the tensor's typical size; "relative" moves each entry in proportion to its
    own, so that it stays within the domain of a logarithm or a power, and reaches tensors of very uneven entries.

    Args:
        x: The tensor, in the working dtype.
        slot: Its name.
        context: Seeds the draws.
        names: What the draw is for.
    """
    size = magnitude(x)
    yield "even", context.signed(x.shape, "direction", slot, "even", *names, device=x.device) * size
    own = torch.nan_to_num(x.to(torch.float64).abs(), nan=size, posinf=size)
    own = torch.where(own == 0, size, own)
    yield "relative", context.signed(x.shape, "direction", slot, "relative", *names, device=x.device) * own


def directional(
    gradient: Tensor | None, direction: Tensor, entries: Sequence[int] | None = None
) -> tuple[float, float]:
    """<g, u> summed in float64, and the root of the sum of the squares of its terms.

    Args:
        gradient: The gradient of the direction's shape; None stands for zero.
        direction: u, in float64.
        entries: The flat indices to restrict the sums to.
    """
    if gradient is None:
        return 0.0, 0.0
    terms = gradient.detach().to(torch.float64).mul(direction).reshape(-1)
    if entries is not None:
        terms = terms[list(entries)]
    return float(terms.sum()), float(torch.linalg.vector_norm(terms))
