"""One operand of a subject that varies, and φ(t) = <v, f(x + t u)> along a direction u through its value."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify.context import CheckContext
from nn_from_scratch.verify.derivative import constants
from nn_from_scratch.verify.derivative.differences import Derivative, differentiate, noise_level, ridders
from nn_from_scratch.verify.derivative.linearization import LinearizationPoint, all_finite, copied, flatten, magnitude
from nn_from_scratch.verify.protocol import Operand


@dataclass(frozen=True, kw_only=True)
class VariedOperand:
    """One operand of a subject, at a point where everything else is fixed.

    Attributes:
        context: Seed, factor, options and deadline.
        row: Which of the point's cotangents.
    """

    point: LinearizationPoint
    operand: Operand
    context: CheckContext
    row: int = 0

    @classmethod
    def at(cls, point: LinearizationPoint, name: str, context: CheckContext) -> VariedOperand:
        """The operand of that name, with the first cotangent."""
        (operand,) = (operand for operand in point.subject.operands if operand.name == name)
        return cls(point=point, operand=operand, context=context)

    @property
    def name(self) -> str:
        """The operand's name."""
        return self.operand.name

    @property
    def x(self) -> Tensor:
        """The operand's value at the point."""
        return self.point.values[self.name]

    @property
    def cotangent(self) -> Tensor:
        """v, as the vector that belongs to the outputs of the point."""
        return self.point.cotangents[self.row]

    @property
    def gradient(self) -> Tensor | None:
        """What the backward returned for this operand; None also at a point that was not differentiated."""
        found = self.point.gradients[self.row][self.name] if self.point.gradients else None
        if found is None or found.is_floating_point() or found.is_complex():
            return found
        return found.to(self.x.dtype)  # its dtype is told by another check, and its numbers are judged all the same

    @property
    def gradient_eps(self) -> float:
        """The relative error of an entry of the gradient from the rounding of a few operations."""
        return 0.0 if self.gradient is None else constants.GRADIENT_ROUNDINGS * torch.finfo(self.gradient.dtype).eps

    @cached_property
    def size(self) -> float:
        """The typical size of the operand's entries, see `magnitude`."""
        return magnitude(self.x)

    @cached_property
    def finite(self) -> Tensor | None:
        """Which entries of the operand are finite; None if all are. The others cannot be moved."""
        return None if all_finite(self.x) else torch.isfinite(self.x)

    def draw(self, purpose: str, *names: object) -> Tensor:
        """Signed numbers of the operand's shape, seeded by the purpose, its name and further names.

        Dense, but for zeros where the operand is not finite.
        """
        drawn = self.context.signed(self.x.shape, purpose, self.name, *names, device=self.x.device)
        return drawn if self.finite is None else torch.where(self.finite, drawn, 0.0)

    def direction(self, *names: object) -> Tensor:
        """A direction u that moves every entry by about the operand's typical size."""
        return self.draw("direction", *names) * self.size

    def directions(self, *names: object) -> Iterator[tuple[str, Tensor]]:
        """Dense signed directions with their names.

        "even" moves every entry by about the operand's typical size; "relative" moves each entry in proportion to its
        own, so that it stays within the domain of a logarithm or a power, and reaches operands of very uneven entries.
        """
        yield "even", self.direction("even", *names)
        own = torch.nan_to_num(self.x.to(torch.float64).abs(), nan=self.size, posinf=self.size)
        own = torch.where(own == 0, self.size, own)
        yield "relative", self.draw("direction", "relative", *names) * own

    def single(self, index: int) -> Tensor:
        """The direction that moves one entry, given by its flat index, by the operand's typical size."""
        u = torch.zeros(self.x.numel(), dtype=torch.float64, device=self.x.device)
        u[index] = self.size
        return u.reshape(self.x.shape)

    def outputs(self, value: Tensor) -> Tensor:
        """The outputs at another value of the operand, as a vector with the entries of the point's.

        A forward that refuses the value (outside of its domain), or gives another number of entries there (`x[x > 0]`),
        has no finite output there.
        """
        self.context.require_time()
        point = self.point
        try:
            outputs = flatten(point.subject.forward({**point.values, self.name: value}))
        except SubjectError:
            return torch.full_like(point.outputs, float("nan"))
        if outputs.numel() != (point.outputs if point.finite is None else point.finite).numel():
            return torch.full_like(point.outputs, float("nan"))
        return point.finite_part(outputs)

    def gradient_at(self, value: Tensor, cotangents: Mapping[str, Tensor]) -> Tensor | None:
        """The analytic gradient at another value of the operand, for other cotangents."""
        run = self.point.subject.run({**self.point.values, self.name: value})
        return run.backward(copied(cotangents))[self.name]


class DirectionalProbe:
    """φ along a direction; every value is computed once, for all cotangents of the point.

    Args:
        varied: The operand that moves.
        direction: u, of the operand's shape, in float64.
    """

    def __init__(self, varied: VariedOperand, direction: Tensor) -> None:
        self.varied, self.direction = varied, direction
        self._y = varied.point.outputs
        self._rows = (varied.point.cotangents.unsqueeze(1) * _signs(self._y.numel(), self._y.device)).flatten(0, 1)
        self._u = direction.to(varied.x.dtype)
        self._changes: dict[float, list[float]] = {}
        self._noise: dict[float, float] = {}
        self._coarseness: float | None = None

    def for_row(self, row: int) -> DirectionalProbe:
        """The probe for another of the point's cotangents, which shares the values computed so far."""
        other = copy.copy(self)
        other.varied = replace(self.varied, row=row)
        other._coarseness = self.coarseness
        other._noise = {}
        for name in ("rounding", "absorbed"):
            other.__dict__.pop(name, None)
        return other

    def value_at(self, t: float) -> Tensor:
        """X + t u."""
        return torch.add(self.varied.x, self._u, alpha=t)

    def outputs(self, t: float) -> Tensor:
        """f(x + t u) as a float64 vector."""
        return self.varied.outputs(self.value_at(t))

    def change(self, t: float) -> float:
        """Δ(t) = φ(t) - φ(0).

        The difference is taken before the sum, so that its rounding error is that of the change.
        """
        return self._changed(t)[self.varied.row * constants.SIGN_PATTERNS]

    def slope(self, t: float) -> float:
        """The central difference (φ(t) - φ(-t)) / 2t."""
        return (self.change(t) - self.change(-t)) / (2 * t)

    def probes(self, t: float) -> list[float]:
        """The same change for the cotangent with other signs."""
        first = self.varied.row * constants.SIGN_PATTERNS
        return self._changed(t)[first + 1 : first + constants.SIGN_PATTERNS]

    def _changed(self, t: float) -> list[float]:
        if t not in self._changes:
            if abs(t) < constants.VANISHING_STEP * torch.finfo(self._u.dtype).eps and torch.equal(
                self.value_at(t), self.varied.x
            ):
                # Lost in the rounding of the operand: what does not change then says nothing about the function.
                return [math.nan] * self._rows.shape[0]
            moved = self.outputs(t)
            if self._coarseness is None:
                double = all(y.dtype == torch.float64 for y in self.varied.point.named_outputs.values())
                self._coarseness = _coarseness(moved) if double else 1.0
            self._changes[t] = torch.mv(self._rows, moved - self._y).tolist()
        return self._changes[t]

    @property
    def coarseness(self) -> float:
        """How much coarser the outputs are rounded than float64 is, where their own dtype does not say so."""
        if self._coarseness is None:
            self.change(constants.START)
        return self._coarseness or 1.0

    @property
    def rounded(self) -> bool:
        """Whether the outputs are in a dtype coarser than float64, or look as if they had been."""
        outputs = self.varied.point.named_outputs.values()
        return self.coarseness > 1 or any(y.dtype not in (torch.float64, torch.complex128) for y in outputs)

    @property
    def eps(self) -> float:
        """The relative rounding error of the coarser of the operand's dtype and what the outputs are rounded to."""
        return torch.finfo(self.varied.x.dtype).eps * self.coarseness

    @property
    def low_precision(self) -> bool:
        """Whether the subject computes in something coarser than float64."""
        return self.eps > torch.finfo(torch.float64).eps or self.quantization_step > 0 or self.absorbed > 0

    @cached_property
    def rounding(self) -> float:
        """The standard error of φ from the rounding of its outputs and of the operand that moves.

        Outputs that do not change count as well: they may change by less than they can hold.
        """
        gradient, x = self.varied.gradient, self.varied.x
        moved = 0.0
        if gradient is not None and gradient.shape == x.shape:
            reach = float(torch.linalg.vector_norm(gradient.detach().double() * x.double()))
            moved = 0.5 * torch.finfo(x.dtype).eps * reach if math.isfinite(reach) else 0.0
        return self.coarseness * math.hypot(self.varied.point.rounding(self.varied.row), moved)

    @property
    def nondeterminism(self) -> float:
        """How much φ differs between two identical calls."""
        return self.varied.point.nondeterminism(self.varied.row)

    @property
    def natural(self) -> float:
        """The size of φ: the root of the sum of the squares of its terms."""
        return float(torch.linalg.vector_norm(self.varied.cotangent * self._y))

    def noise(self, start: float) -> float:
        """The standard error of one value of Δ: rounding of the outputs, measured noise, and nondeterminism."""
        start = min(start, constants.START)
        if start not in self._noise:
            measured = noise_level(self.change, constants.NOISE_SPACING * start)
            self._noise[start] = max(measured, self.nondeterminism, self.rounding, self.absorbed)
        return self._noise[start]

    @cached_property
    def absorbed(self) -> float:
        """How far φ jumps where it first moves, if it does not move at the usual steps; 0 for any other.

        The outputs are then rounded more coarsely than their dtype says, and absorb the change.
        """
        if self.change(constants.START) or self.change(-constants.START):
            return 0.0
        t = constants.START
        for _ in range(constants.ABSORPTION_STEPS):
            t *= constants.ABSORPTION_GROWTH
            jump = abs(self.change(t))
            if jump:
                return jump if math.isfinite(jump) and jump <= constants.COARSEST_EPS * self.natural else 0.0
        return 0.0

    @cached_property
    def quantization_step(self) -> float:
        """The relative change below which half of the outputs do not move at all, though they do for larger ones.

        That is what a forward looks like that rounds to a coarser dtype inside; 0 for any other. (A function that is
        constant over more than the coarsest dtype's width has a derivative of 0, not a staircase.)
        """
        moving = self.outputs(constants.START) != self._y
        count = int(moving.sum())
        for t in constants.QUANTIZATION_STEPS:
            moved = int(((self.outputs(t) != self._y) & moving).sum())
            if 2 * moved >= count:
                # On a real staircase the next steps follow at once; near a single edge they do not.
                near, far = (self.outputs(share * t) for share in constants.NEXT_QUANTIZATION_STEPS)
                again = int(((near != far) & moving).sum())
                return t if t > constants.QUANTIZATION_STEPS[0] and 2 * again >= count else 0.0
        return 0.0

    def finest(self) -> float:
        """The smallest start of a table that is well above the width of a quantization step; mostly 0."""
        return min(constants.QUANTIZATION_STEPS_IN_START * self.quantization_step, constants.START)

    def derivative(self, scale: float = 0.0) -> Derivative | None:
        """φ'(0); None if φ is finite nowhere near 0. The size that it should have says which error is good enough."""
        return differentiate(
            self.change,
            self.noise,
            target=lambda value: constants.DERIVATIVE_TARGET * max(abs(value), scale),
            finest=self.finest,
            rounding=max(self.rounding, self.absorbed if scale else 0.0),
            probes=self.probes,
        )

    def table(self, start: float) -> Derivative | None:
        """One table with a given largest step."""
        if not (math.isfinite(self.change(start)) and math.isfinite(self.change(-start))):
            return None
        return ridders(self.change, start, self.noise(start), self.probes)


def _coarseness(outputs: Tensor) -> float:
    """Whether every output at a point that was moved at random is a float32 number; integers do not count."""
    if not torch.equal(outputs.float().double(), outputs) or torch.equal(outputs.round(), outputs):
        return 1.0
    return float(torch.finfo(torch.float32).eps / torch.finfo(torch.float64).eps)


@lru_cache(maxsize=8)
def _signs(count: int, device: torch.device) -> Tensor:
    """Patterns of signs, orthogonal to each other: ++++..., +-+-..., ++--..., ++++----..."""
    index = torch.arange(count, device=device)
    bits = range(constants.SIGN_PATTERNS - 1)
    patterns = [1.0 - 2.0 * ((index >> k) & 1).to(torch.float64) for k in bits]
    return torch.stack([torch.ones_like(patterns[0]), *patterns])


def directional(gradient: Tensor | None, direction: Tensor) -> tuple[float, float]:
    """<g, u> summed in float64, and the root of the sum of the squares of its terms; None stands for zero."""
    if gradient is None:
        return 0.0, 0.0
    terms = gradient.detach().to(torch.float64).mul(direction)
    return float(terms.sum()), float(torch.linalg.vector_norm(terms))
