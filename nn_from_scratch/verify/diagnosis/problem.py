"""The wrong gradient and the true one, brought into one form that every hypothesis reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from nn_from_scratch.errors import ArgumentError, ShapeError
from nn_from_scratch.verify.diagnosis.context import DiagnosisContext

__all__ = ["Estimate", "Problem", "plain", "pose"]

_ROUNDING = 8 * torch.finfo(torch.float64).eps


@dataclass(frozen=True)
class Estimate:
    """A tensor that is known up to an error: `allowed` is the error of each entry (float64, same shape)."""

    value: Tensor
    allowed: Tensor

    def rearranged(self, move: Callable[[Tensor], Tensor]) -> Estimate:
        """The same after a map that moves or adds entries; the error of a sum is at most their sum."""
        return Estimate(move(self.value), move(self.allowed))

    def scaled(self, factor: float) -> Estimate:
        """The same times a constant, with the rounding of the product allowed for."""
        value = factor * self.value
        return Estimate(value, abs(factor) * self.allowed + _ROUNDING * value.abs())

    def replaced(self, value: Tensor) -> Estimate:
        """Another value of the same shape, each entry as well known as here relative to the largest entry."""
        largest = self.value.abs().max().clamp(min=torch.finfo(torch.float64).tiny)
        growth = (value.abs().max() / largest).nan_to_num(1.0, 1.0, 1.0).clamp(min=1.0)
        return Estimate(value, self.allowed * growth)


@dataclass(frozen=True)
class Problem:
    """One wrong gradient.

    Attributes:
        analytic: What the backward returned, float64 on the CPU.
        truth: The numeric gradient and the allowed error of each entry.
        context: What else is known.
        complex: Whether the last axis holds the real and the imaginary part.
    """

    analytic: Tensor
    truth: Estimate
    context: DiagnosisContext
    complex: bool = False

    @property
    def numeric(self) -> Tensor:
        """The numeric gradient."""
        return self.truth.value

    @cached_property
    def same_shape(self) -> bool:
        """Whether the gradient has the shape that it should have."""
        return self.analytic.shape == self.numeric.shape

    @cached_property
    def wrong(self) -> Tensor:
        """Entries that differ by more than is allowed; NaN differs from everything."""
        return ~((self.analytic - self.numeric).abs() <= self.truth.allowed)

    @cached_property
    def telling(self) -> Tensor:
        """Right entries that are not zero on both sides: only these show that something is right there."""
        return ~self.wrong & (self.numeric.abs() > 4 * self.truth.allowed)

    @cached_property
    def finite(self) -> bool:
        """Whether the analytic gradient has no infinity and no NaN."""
        return bool(self.analytic.isfinite().all())

    @cached_property
    def same_values(self) -> bool:
        """Whether the sorted magnitudes agree up to a factor, as they do if the values are only in wrong places."""
        if not self.finite or self.analytic.numel() != self.numeric.numel() or not self.numeric.numel():
            return False
        ours, theirs = (t.abs().flatten().sort().values for t in (self.analytic, self.numeric))
        ratio = (ours.max() / theirs.max()).nan_to_num(1.0, 1.0, 1.0).clamp(min=1e-300)
        return bool(((ours / ratio - theirs).abs() <= 4 * self.truth.allowed.max()).all())

    def known(self, value: Tensor) -> Estimate:
        """A tensor of any shape as a prediction that is about as exact as the true gradient."""
        if value.shape == self.numeric.shape:
            return self.truth.replaced(value)
        return Estimate(value, self.truth.allowed.max().expand_as(value))

    def axis(self, index: int) -> str:
        """How a sentence calls one axis of the numeric gradient."""
        name = self.axis_name(index)
        return f"axis {index}" if name is None else f"axis {index} ({name})"

    def axis_name(self, index: int) -> str | None:
        """The conventional name of an axis, for an input with a batch and for a kernel."""
        context, dims = self.context, self.numeric.dim()
        if self.complex and index == dims - 1:
            return "real and imaginary part"
        if context.axes is not None and len(context.axes) == dims:
            return context.axes[index]
        if context.role == "input" and context.batch_size == self.numeric.shape[0]:
            letters = {1: ("N",), 2: ("N", None), 3: ("N", "C", None), 4: ("N", "C", "H", "W")}
            return letters.get(dims, ("N",) + (None,) * (dims - 1))[index]
        if context.role == "parameter" and dims in (3, 4, 5):
            return (None, None, *("depth", "height", "width")[5 - dims :])[index]
        return None

    @cached_property
    def spatial_axes(self) -> tuple[int, ...]:
        """The axes after batch and channels (of an input) or after the two channel axes (of a kernel)."""
        return tuple(range(2, self.numeric.dim())) if self.numeric.dim() >= 3 else ()


def plain(tensor: Tensor) -> Tensor:
    """A detached dense float64 copy on the CPU; a complex tensor gets a last axis (real, imaginary)."""
    tensor = tensor.detach()
    if tensor.layout != torch.strided:
        tensor = tensor.to_dense()
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor.resolve_conj())
    with torch.inference_mode(False):
        return tensor.to("cpu", torch.float64, copy=True)


def pose(analytic: Tensor, numeric: Tensor, tolerance: Tensor | float | None, context: DiagnosisContext) -> Problem:
    """Bring both gradients and the allowed error into one form.

    Raises:
        ArgumentError: The tolerance is negative or not finite, or the numeric gradient is not finite.
        ShapeError: The tolerance does not broadcast to the numeric gradient.
    """
    left, right = plain(analytic), plain(numeric)
    if not right.isfinite().all():
        raise ArgumentError("explain: numeric must be finite, and it has an infinite or NaN entry.")
    largest = right.abs().max() if right.numel() else torch.zeros((), dtype=torch.float64)
    if tolerance is None:
        real = analytic.dtype if analytic.dtype.is_floating_point else torch.float64
        relative = min(8 * torch.finfo(real).eps ** 0.5, 0.05)
        allowed = relative * (right.abs() + 0.1 * largest)
    else:
        given = plain(torch.as_tensor(tolerance))
        if not (given.isfinite() & (given >= 0)).all():
            raise ArgumentError("explain: tolerance must be finite and at least 0 in every entry.")
        if given.dim() and numeric.is_complex():
            given = given.unsqueeze(-1)
        try:
            allowed = given.expand(right.shape).clone()
        except RuntimeError:
            raise ShapeError(
                f"explain: tolerance has the shape {tuple(given.shape)} and must broadcast to numeric's, "
                f"{tuple(right.shape)}."
            ) from None
    # An entry of which nothing is known may come with any large number; its square has to stay finite.
    allowed = allowed.clamp(max=1e100)
    return Problem(left, Estimate(right, allowed + _ROUNDING * largest), context, numeric.is_complex())
