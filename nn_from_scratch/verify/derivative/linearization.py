"""The point at which a subject is differentiated: values, outputs, cotangents, analytic gradients, noise."""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify.context import CheckContext
from nn_from_scratch.verify.derivative import constants
from nn_from_scratch.verify.protocol import Subject, starting_values


class NoGradientError(SubjectError):
    """No output of a subject can have a gradient: all are integers or masks."""


@dataclass(frozen=True, kw_only=True)
class LinearizationPoint:
    """A subject at fixed values, with everything that does not depend on the operand under test.

    Attributes:
        values: The value of every operand, in the working dtype.
        named_outputs: y at these values, by output.
        outputs: y at these values, all outputs in one float64 vector (a complex number gives two entries).
        finite: Which entries of `outputs` are finite; None if all are.
        cotangents: One row for each cotangent, 0 where the output is not finite. The first is dense and signed; among
            several outputs it weighs each by 1 / its size. The second (level "full") also weighs the entries of each
            output by 1 / |y|, within bounds, so that the tails of a softmax count more.
        named_cotangents: The same cotangents, by output.
        gradients: What the subject's backward returned for each cotangent, by operand.
    """

    subject: Subject
    values: Mapping[str, Tensor]
    named_outputs: Mapping[str, Tensor]
    outputs: Tensor
    finite: Tensor | None
    cotangents: Tensor
    named_cotangents: Sequence[Mapping[str, Tensor]]
    gradients: Sequence[Mapping[str, Tensor | None]]
    _nondeterminism: list[float] = field(default_factory=list)

    @cached_property
    def noise(self) -> Tensor:
        """The rounding error to expect of each output at best: its own, and that of the sums inside."""
        return self.finite_part(flatten({name: _rounding(y) for name, y in self.named_outputs.items()}))

    @cached_property
    def eps(self) -> float:
        """The relative rounding error of the finest of the outputs' dtypes."""
        return min(torch.finfo(y.dtype).eps for y in self.named_outputs.values())

    @property
    def coarse(self) -> bool:
        """Whether all outputs are in dtypes of so few digits that hardly any slope is resolved."""
        return self.eps > constants.COARSE_EPS

    def rounding(self, row: int) -> float:
        """The standard error of <v, y> from the rounding of the outputs, for one cotangent."""
        return float(torch.linalg.vector_norm(self.cotangents[row] * self.noise))

    def nondeterminism(self, row: int) -> float:
        """How much <v, y> differs between two identical calls, for one cotangent; 0 for a deterministic subject."""
        if not self._nondeterminism:
            again = self.finite_part(flatten(self.subject.forward(self.values)))
            change = torch.mv(self.cotangents, again - self.outputs).abs()
            self._nondeterminism.extend(change.nan_to_num(nan=math.inf).tolist())
        return self._nondeterminism[row]

    def finite_part(self, outputs: Tensor) -> Tensor:
        """The entries of a vector of outputs that are finite at this point."""
        return outputs if self.finite is None else outputs[self.finite]


def working_values(subject: Subject) -> tuple[dict[str, Tensor], str | None]:
    """The starting values in float64, or in their own dtype and why the subject takes no float64."""
    native = starting_values(subject)
    floating = [value for value in native.values() if value.is_floating_point() or value.is_complex()]
    if all(value.dtype in (torch.float64, torch.complex128) for value in floating):
        return native, None
    double = dict(native)
    for name, value in native.items():
        if value.is_floating_point() or value.is_complex():
            double[name] = value.to(torch.complex128 if value.is_complex() else torch.float64)
    try:
        run = subject.run(double)
    except SubjectError as error:
        return native, f"the forward takes no float64: {error}"
    before, outputs = subject.forward(native), dict(run.outputs)
    for name, y in outputs.items():
        kept = before.get(name)
        if y.is_floating_point() and (kept is None or kept.shape != y.shape):
            return native, "the forward behaves otherwise in float64"
    try:
        run.backward({name: torch.ones_like(y) for name, y in outputs.items() if y.is_floating_point()})
    except SubjectError as error:
        return native, f"the backward takes no float64: {error}"
    return double, None


def point_at(subject: Subject, values: Mapping[str, Tensor], context: CheckContext) -> LinearizationPoint:
    """Run the subject forward and backward at some values, with a random signed cotangent (two at level "full").

    Raises:
        SubjectError: If the subject raises, or has no floating-point output.
    """

    def draw(outputs: Mapping[str, Tensor]) -> list[Mapping[str, Tensor]]:
        balanced = _balanced(context.cotangents(outputs), outputs)
        return [balanced, _equalized(balanced, outputs)] if context.level == "full" else [balanced]

    return _linearized(subject, values, draw, differentiated=True)


def point_with(
    subject: Subject, values: Mapping[str, Tensor], cotangents: Mapping[str, Tensor], *, differentiated: bool
) -> LinearizationPoint:
    """A point with given cotangents; an output without one has cotangent zero.

    Args:
        differentiated: Whether to run the backward; else the point has no analytic gradient.

    Raises:
        SubjectError: If the subject raises, or has no floating-point output.
    """

    def draw(outputs: Mapping[str, Tensor]) -> list[Mapping[str, Tensor]]:
        return [{n: cotangents[n].to(y) if n in cotangents else torch.zeros_like(y) for n, y in outputs.items()}]

    return _linearized(subject, values, draw, differentiated=differentiated)


def _linearized(
    subject: Subject,
    values: Mapping[str, Tensor],
    draw: Callable[[Mapping[str, Tensor]], list[Mapping[str, Tensor]]],
    *,
    differentiated: bool,
) -> LinearizationPoint:
    run = subject.run(values) if differentiated else None
    returned = subject.forward(values) if run is None else run.outputs
    outputs = {name: y.clone() for name, y in returned.items() if y.is_floating_point() or y.is_complex()}
    if not outputs:
        raise NoGradientError(f"{subject.name} returned no floating-point tensor, so there is no gradient to verify")
    rows = [{name: _masked(v, outputs[name]) for name, v in row.items()} for row in draw(outputs)]
    gradients = []
    if run is not None:
        gradients = [run.backward(copied(rows[0])), *(subject.run(values).backward(copied(row)) for row in rows[1:])]
    y, cotangents = flatten(outputs), torch.stack([flatten(row) for row in rows])
    finite: Tensor | None = None
    if not all_finite(y):
        finite = torch.isfinite(y)
        y, cotangents = y[finite], cotangents[:, finite]
    return LinearizationPoint(
        subject=subject,
        values=dict(values),
        named_outputs=outputs,
        outputs=y,
        finite=finite,
        cotangents=cotangents,
        named_cotangents=rows,
        gradients=gradients,
    )


def magnitude(x: Tensor) -> float:
    """The typical size of a tensor's entries: the mean |x| of the finite ones, 1 for a tensor of zeros."""
    return _mean_size(x) or 1.0


def flatten(outputs: Mapping[str, Tensor]) -> Tensor:
    """All floating-point tensors of a dictionary as one float64 vector; complex entries become pairs."""
    floating = [y for y in outputs.values() if y.is_floating_point() or y.is_complex()]
    real = [torch.view_as_real(y.resolve_conj()) if y.is_complex() else y for y in floating]
    parts = [y.reshape(-1).to(torch.float64) for y in real]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def all_finite(tensor: Tensor) -> bool:
    """Whether no entry is infinite or NaN; one reduction, mostly."""
    if tensor.dtype == torch.complex32:
        tensor = torch.view_as_real(tensor)  # next to nothing is implemented for it
    total = tensor.sum().item()
    return cmath.isfinite(total) or bool(torch.isfinite(tensor).all())


def copied(cotangents: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies, so that a backward that writes into its cotangent spoils no other pass."""
    return {name: v.clone() for name, v in cotangents.items()}


def _rounding(y: Tensor) -> Tensor:
    # A small entry beside large ones is often what a cancellation left over: it gets the error of the others.
    size = y.abs().to(torch.float64)
    limits = torch.finfo(y.dtype)
    size = size.clamp(min=constants.SHARE_OF_MEAN_OUTPUT * _mean_size(size))
    size = size.mul_(constants.OUTPUT_ROUNDINGS * limits.eps).add_(limits.tiny)
    return torch.complex(size, size) if y.is_complex() else size


def _mean_size(x: Tensor) -> float:
    """The mean of |x| over the finite entries; 0 if there are none."""
    size = x.abs()
    mean = float(size.mean(dtype=torch.float64)) if x.numel() else 0.0
    if not math.isfinite(mean):
        finite = size[torch.isfinite(size)]
        mean = float(finite.mean(dtype=torch.float64)) if finite.numel() else 0.0
    return mean if math.isfinite(mean) else 0.0


def _balanced(cotangents: Mapping[str, Tensor], outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    if len(outputs) == 1:
        return dict(cotangents)
    sizes = {name: _mean_size(y) for name, y in outputs.items()}
    largest = max(sizes.values())
    return {
        name: v * (largest / sizes[name]) if sizes[name] > constants.SMALLEST_OUTPUT_SHARE * largest else v
        for name, v in cotangents.items()
    }


def _equalized(cotangents: Mapping[str, Tensor], outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    weighted = {}
    for name, v in cotangents.items():
        size = torch.nan_to_num(outputs[name].abs().to(torch.float64), nan=0.0, posinf=0.0)
        mean = _mean_size(size)
        # An output that is exactly 0 has no magnitude of its own: it gets the typical weight.
        size = torch.where(size == 0, mean, size).clamp_(min=constants.SMALLEST_ENTRY_SHARE * mean)
        weighted[name] = v * (mean / size).to(v.dtype) if mean else -v
    return weighted


def _masked(v: Tensor, y: Tensor) -> Tensor:
    return v if all_finite(y) else torch.where(torch.isfinite(y), v, torch.zeros_like(v))
