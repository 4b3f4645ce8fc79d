"""The problem that a diagnosis solves: a wrong gradient, the true one, and what is known of both."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Literal, Protocol

import torch
from torch import Tensor

from nn_from_scratch.errors import ArgumentError, ShapeError
from nn_from_scratch.verify.context import Budget
from nn_from_scratch.verify.diagnosis.constants import (
    CLEARLY_NONZERO,
    EXPERIMENTS,
    GUESSED_ERROR,
    GUESSED_FLOOR,
    LARGEST_ERROR,
    LARGEST_GUESSED_ERROR,
    ROUNDING,
    SORTED_ERROR,
    TINY,
)

Cotangents = Mapping[str, Tensor]


class GradientAt(Protocol):
    """A gradient of the same tensor in another experiment.

    `cotangents` has one tensor for each output, by name; `values` replaces some of the tensors by name, and
    the others keep the value that they have in `DiagnosisContext.tensors`. Gives None where the experiment
    cannot be done.
    """

    def __call__(self, cotangents: Cotangents, values: Mapping[str, Tensor]) -> Tensor | None:
        """The gradient in that experiment."""


@dataclass(frozen=True)
class Diagnosis:
    """The name of a fault that explains a whole wrong gradient.

    Attributes:
        kind: A stable identifier in kebab case, such as `sign` or `factor`; `docs/faults.md` lists them all.
            `layout`, `ambiguous` and the like stand for several explanations that these values cannot tell
            apart.
        sentence: One sentence for the terminal.
        details: Figures behind the sentence, such as `factor`, `names`, `axes`, `alternatives`.
    """

    kind: str
    sentence: str
    details: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))

    def __str__(self) -> str:
        return self.sentence


@dataclass(frozen=True, kw_only=True)
class DiagnosisContext:
    """What is known about the experiment that gave a wrong gradient; everything is optional.

    The more is known, the more faults have a name. Tensors may have any floating dtype and device.

    Attributes:
        name: The tensor whose gradient is wrong, a key of `tensors`.
        role: Whether that tensor is an input or a parameter.
        pairs: The names of tensors and outputs that are complex, with real and imaginary parts along a last axis.
        batch_size: N; the axis 0 of an input is named N if it has this size.
        axes: Names of the gradient's axes, such as ("N", "C", "H", "W"), with None for one that has none. Those of a
            kernel are called depth, height and width.
        images: Whether the axes of the output from the third on are places of an image or of a signal; unknown if None.
        tensors: The value of every tensor that the subject depends on, by name, in the subject's order.
        outputs: The subject's outputs, by name.
        cotangent: The cotangent, or one for each output by name.
        kernel_size, stride, padding, dilation: Of a convolution or pooling, one entry for each spatial axis; inferred
            from shapes if None.
        constants: Named numbers of the subject (`eps`, `slope`), tried wherever such a number is needed.
        uses: How often the tensor is used in one forward pass.
        numeric_for_ones: The true gradient for cotangents of ones.
        gradient_for_other_cotangent: The subject's gradient for a different cotangent at the same point.
        previous_gradient: The subject's gradient from its previous call, which had other inputs or
            cotangents.
        initial_grad: What `.grad` held before the backward; `analytic` and `numeric` are then what `.grad`
            holds, and should hold, after it.
        contributions: Named parts of the true gradient that add up to it (one for each use, output or
            sample).
        known_gradients: Other true gradients that this one may have been mistaken for, by a phrase that
            completes "the gradient is ...", such as "the gradient of the other pending forward".
        numeric_gradients: The true gradients of the other tensors, by name.
        gradient_at: The subject's own gradient in another experiment.
        forward: The subject's forward, from values to outputs by name; where it consists of differentiable functions of
            torch, faults inside of it have names, and experiments are cheap.
        numeric_at: The true gradient in another experiment; it may also give None where the wrong gradient is known to
            be no sum of multiples of that and of the true one.
        numeric_of: The true gradient of another tensor, by its name, in this experiment; None as for `numeric_at`.
        experiments: How many calls of `numeric_at` and `gradient_at` one diagnosis may make, at most.
        budget: The CPU time that experiments may take, at most. Its `stopped` says afterwards whether it was spent.
    """

    name: str | None = None
    role: Literal["input", "parameter"] | None = None
    pairs: frozenset[str] = frozenset()
    batch_size: int | None = None
    axes: tuple[str | None, ...] | None = None
    images: bool | None = None
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    outputs: Mapping[str, Tensor] = field(default_factory=dict)
    cotangent: Tensor | Cotangents | None = None
    kernel_size: tuple[int, ...] | None = None
    stride: tuple[int, ...] | None = None
    padding: tuple[int, ...] | None = None
    dilation: tuple[int, ...] | None = None
    constants: Mapping[str, float] = field(default_factory=dict)
    uses: int | None = None
    numeric_for_ones: Tensor | None = None
    gradient_for_other_cotangent: Tensor | None = None
    previous_gradient: Tensor | None = None
    initial_grad: Tensor | None = None
    contributions: Mapping[str, Tensor] = field(default_factory=dict)
    known_gradients: Mapping[str, Tensor] = field(default_factory=dict)
    numeric_gradients: Mapping[str, Tensor] = field(default_factory=dict)
    gradient_at: GradientAt | None = None
    numeric_at: GradientAt | None = None
    forward: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]] | None = None
    numeric_of: Callable[[str], Tensor | None] | None = None
    experiments: int = EXPERIMENTS
    budget: Budget = field(default_factory=Budget)

    def __post_init__(self) -> None:
        if self.name is not None and self.tensors and self.name not in self.tensors:
            raise ArgumentError(f"name is {self.name!r}, but None or one of {sorted(self.tensors)} is expected")
        if self.experiments < 0:
            raise ArgumentError(f"experiments is {self.experiments}, but an integer of at least 0 is expected")

    @property
    def cotangents(self) -> Cotangents:
        """The cotangents by output name; empty if none are known."""
        if self.cotangent is None:
            return {}
        if isinstance(self.cotangent, Tensor):
            return {next(iter(self.outputs), "y"): self.cotangent}
        return self.cotangent

    @property
    def only_cotangent(self) -> Tensor | None:
        """The cotangent of a subject with a single output."""
        cotangents = self.cotangents
        return next(iter(cotangents.values())) if len(cotangents) == 1 else None


@dataclass(frozen=True)
class UncertainTensor:
    """A tensor (float64) that is known up to an error: `allowed` is the largest error of each entry."""

    value: Tensor
    allowed: Tensor

    def rearranged(self, move: Callable[..., Tensor], *arguments: object) -> UncertainTensor:
        """The same after a map that moves or adds entries; the error of a sum is at most the sum of the errors."""
        return UncertainTensor(move(self.value, *arguments), move(self.allowed, *arguments))

    def scaled(self, factor: float) -> UncertainTensor:
        """The same times a constant, with the rounding of the product allowed for."""
        value = factor * self.value
        return UncertainTensor(value, abs(factor) * self.allowed + ROUNDING * value.abs())

    def where(self, region: Tensor, other: UncertainTensor) -> UncertainTensor:
        """The other inside a region (bool, same shape), this one elsewhere."""
        return UncertainTensor(
            torch.where(region, other.value, self.value), torch.where(region, other.allowed, self.allowed)
        )

    def replaced(self, value: Tensor) -> UncertainTensor:
        """Another value of the same shape, each entry as well known as here relative to the largest entry."""
        largest = self.value.abs().max().clamp(min=TINY)
        growth = (value.abs().max() / largest).nan_to_num(1.0, 1.0, 1.0).clamp(min=1.0)
        return UncertainTensor(value, self.allowed * growth)


@dataclass(frozen=True)
class Problem:
    """One wrong gradient, in the form that every hypothesis reads.

    Attributes:
        analytic: What the backward returned, float64 on the CPU; finite.
        truth: The numeric gradient and the allowed error of each entry.
        complex: Whether the last axis holds the real and the imaginary part.
    """

    analytic: Tensor
    truth: UncertainTensor
    context: DiagnosisContext
    complex: bool = False

    @property
    def numeric(self) -> Tensor:
        """The numeric gradient."""
        return self.truth.value

    @cached_property
    def cotangent(self) -> Tensor | None:
        """The cotangent of a subject with a single real output, float64 on the CPU."""
        g = self.context.only_cotangent
        return None if g is None or g.is_complex() else plain(g)

    @cached_property
    def unary(self) -> tuple[str, Tensor, Tensor] | None:
        """The name of the tensor, its value, and the cotangent, where all are known and real: y = f(x)."""
        name, g = self.context.name, self.context.only_cotangent
        known = name in self.context.tensors and g is not None and not self.complex
        return (name, self.context.tensors[name], g) if known and name is not None and g is not None else None

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
        return ~self.wrong & (self.numeric.abs() > CLEARLY_NONZERO * self.truth.allowed)

    @cached_property
    def same_values(self) -> bool:
        """Whether the sorted magnitudes agree up to a factor, as they do if the values are only in wrong places."""
        if self.analytic.numel() != self.numeric.numel():
            return False
        ours, theirs = (t.abs().flatten().sort().values for t in (self.analytic, self.numeric))
        ratio = (ours.max() / theirs.max()).nan_to_num(1.0, 1.0, 1.0).clamp(min=TINY)
        return bool(((ours / ratio - theirs).abs() <= SORTED_ERROR * self.truth.allowed.max()).all())

    def known(self, value: Tensor) -> UncertainTensor:
        """A tensor of any shape as a prediction that is about as exact as the true gradient."""
        if value.shape == self.numeric.shape:
            return self.truth.replaced(value)
        return UncertainTensor(value, self.truth.allowed.max().expand_as(value))

    def axis(self, index: int) -> str:
        """How a sentence calls one axis of the numeric gradient."""
        name = self.axis_name(index)
        return f"axis {index}" if name is None else f"axis {index} ({name})"

    def axis_name(self, index: int) -> str | None:
        """The name of an axis, where one is known; of an input with a batch, axis 0 is N."""
        context = self.context
        if self.complex and index == self.numeric.dim() - 1:
            return "real and imaginary part"
        if context.axes is not None:
            return context.axes[index] if index < len(context.axes) else None
        return "N" if index == 0 and context.role == "input" and context.batch_size == self.numeric.shape[0] else None

    @cached_property
    def is_kernel(self) -> bool:
        """Whether the gradient is that of a kernel: by the names of its axes, or else for all that is known."""
        axes = self.context.axes
        return self.context.role == "parameter" and self.numeric.dim() >= 4 if axes is None else "width" in axes

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
    """Bring both gradients and the allowed error into one form; raises as `explain` does."""
    left, right = plain(analytic), plain(numeric)
    if not right.isfinite().all():
        raise ArgumentError("numeric has an infinite or NaN entry, but finite ones are expected")
    largest = right.abs().max()
    if tolerance is None:
        real = analytic.dtype if analytic.dtype.is_floating_point else torch.float64
        relative = min(GUESSED_ERROR * torch.finfo(real).eps ** 0.5, LARGEST_GUESSED_ERROR)
        allowed = relative * (right.abs() + GUESSED_FLOOR * largest)
    else:
        given = plain(torch.as_tensor(tolerance))
        if not (given.isfinite() & (given >= 0)).all():
            worst = float(given[~(given.isfinite() & (given >= 0))][0])
            raise ArgumentError(f"tolerance is {worst:g} in an entry, but a finite number of at least 0 is expected")
        if given.dim() and numeric.is_complex():
            given = given.unsqueeze(-1)
        try:
            allowed = given.expand(right.shape).clone()
        except RuntimeError:
            raise ShapeError(
                f"tolerance has the shape {tuple(given.shape)}, but one that broadcasts to numeric's, "
                f"{tuple(right.shape)}, is expected"
            ) from None
    allowed = allowed.clamp(max=LARGEST_ERROR) + ROUNDING * largest
    paired = context.name is not None and context.name in context.pairs
    return Problem(left, UncertainTensor(right, allowed), context, paired or numeric.is_complex())
