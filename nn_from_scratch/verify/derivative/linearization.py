"""The point at which a subject is differentiated: values, outputs, cotangents, analytic gradients, noise."""

from __future__ import annotations

import cmath
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify.context import CheckContext
from nn_from_scratch.verify.protocol import Subject, starting_values

__all__ = ["LinearizationPoint", "all_finite", "flatten", "point_at", "point_with", "working_values"]

_SMALLEST_SHARE = 1e-3
_ROUNDINGS = 2.0
_OTHERS = 0.1


@dataclass(frozen=True, kw_only=True)
class LinearizationPoint:
    """A subject at fixed values, with everything that does not depend on the tensor under test.

    Attributes:
        subject: The subject.
        values: The value of every slot, in the working dtype.
        named_outputs: y at these values, by output.
        outputs: y at these values, all outputs in one float64 vector (a complex number gives two entries).
        finite: Which entries of `outputs` are finite; None if all are.
        cotangents: One row for each cotangent, 0 where the output is not finite. The first is dense and signed;
            among several outputs it weighs each by 1 / its size. The second (level "full") also weighs the
            entries of each output by 1 / |y|, within bounds, so that the tails of a softmax count more.
        named_cotangents: The same cotangents, by output.
        gradients: What the subject's backward returned for each cotangent, by slot.
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

    def at(self, slot: str, value: Tensor) -> Tensor:
        """The outputs with one slot's value replaced, as a vector of this point's kind.

        A forward that refuses the value (outside of its domain) has no finite output there.
        """
        try:
            outputs = flatten(self.subject.forward({**self.values, slot: value}))
        except SubjectError:
            return torch.full_like(self.outputs, float("nan"))
        if outputs.numel() != (self.outputs if self.finite is None else self.finite).numel():
            raise SubjectError(
                f"{self.subject.name}'s output changes its number of entries with the value of {slot}; "
                "it should be the same for every value."
            )
        return outputs if self.finite is None else outputs[self.finite]

    @cached_property
    def noise(self) -> Tensor:
        """The rounding error to expect of each output at best: its own, and that of the sums inside."""
        noise = flatten({name: _rounding(output) for name, output in self.named_outputs.items()})
        return noise if self.finite is None else noise[self.finite]

    def rounding(self, row: int) -> float:
        """The standard error of <v, y> from the rounding of the outputs, for one cotangent."""
        v, y = self.cotangents[row], self.outputs
        if len(self.named_outputs) > 1:
            return float(torch.linalg.vector_norm(v * self.noise))
        (output,) = self.named_outputs.values()
        own = float(torch.linalg.vector_norm(v * y))
        others = float(torch.linalg.vector_norm(y)) * float(torch.linalg.vector_norm(v)) / max(y.numel(), 1) ** 0.5
        return _ROUNDINGS * torch.finfo(output.dtype).eps * math.hypot(own, _OTHERS * others)

    def nondeterminism(self, row: int) -> float:
        """How much <v, y> differs between two identical calls, for one cotangent; 0 for a deterministic subject."""
        if not self._nondeterminism:
            again = flatten(self.subject.forward(self.values))
            again = again if self.finite is None else again[self.finite]
            change = torch.mv(self.cotangents, again - self.outputs).abs()
            self._nondeterminism.extend(change.nan_to_num(nan=math.inf).tolist())
        return self._nondeterminism[row]

    def gradient(
        self,
        slot: str,
        row: int,
        values: Mapping[str, Tensor] | None = None,
        cotangents: Mapping[str, Tensor] | None = None,
    ) -> Tensor | None:
        """The analytic gradient of a slot for one cotangent, here or at other values and with another cotangent.

        Raises:
            SubjectError: If the subject raises.
        """
        if values is None:
            return self.gradients[row][slot]
        run = self.subject.run({**self.values, **values})
        return run.backward(_copies(self.named_cotangents[row] if cotangents is None else cotangents))[slot]


def working_values(subject: Subject) -> tuple[dict[str, Tensor], str | None]:
    """The starting values in float64, or in their own dtype if the subject takes no float64.

    Returns:
        The values by slot, and why they are not in float64 (None if they are).
    """
    native = starting_values(subject)
    floating = [value for value in native.values() if value.is_floating_point() or value.is_complex()]
    if all(value.dtype in (torch.float64, torch.complex128) for value in floating):
        return native, None
    double = {name: _promoted(value) for name, value in native.items()}
    try:
        outputs = subject.forward(double)
    except SubjectError as error:
        return native, f"the forward takes no float64: {error}"
    before = subject.forward(native)
    for name, y in outputs.items():
        kept = before.get(name)
        if y.is_floating_point() and (kept is None or kept.shape != y.shape):
            return native, "the forward behaves otherwise in float64"
    return double, None


def point_at(subject: Subject, values: Mapping[str, Tensor], context: CheckContext) -> LinearizationPoint:
    """Run the subject forward and backward at some values, with random signed cotangents.

    Args:
        subject: The subject.
        values: The value of every slot, in the working dtype.
        context: Seeds the cotangents; at level "full" there is a second one.

    Raises:
        SubjectError: If the subject raises, or has no floating-point output.
    """
    run = subject.run(values)
    outputs = _floating(subject, run.outputs)
    kept = {name: y.clone() for name, y in outputs.items()}
    sets = [_balanced(context.cotangents(kept), kept)]
    if context.level == "full":
        sets.append(_equalised(sets[0], kept))
    sets = [{name: _masked(v, kept[name]) for name, v in v_set.items()} for v_set in sets]
    gradients = [run.backward(_copies(sets[0]))]
    for v_set in sets[1:]:
        again = subject.run(values)
        gradients.append(again.backward(_copies(v_set)))
    return _assembled(subject, values, kept, sets, gradients)


def point_with(
    subject: Subject, values: Mapping[str, Tensor], cotangents: Mapping[str, Tensor], *, differentiated: bool
) -> LinearizationPoint:
    """A point with given cotangents; an output without one has cotangent zero.

    Args:
        subject: The subject.
        values: The value of every slot, in the working dtype.
        cotangents: By output.
        differentiated: Whether to run the backward; else the point has no analytic gradient.

    Raises:
        SubjectError: If the subject raises, or has no floating-point output.
    """
    if differentiated:
        run = subject.run(values)
        outputs = {name: y.clone() for name, y in _floating(subject, run.outputs).items()}
    else:
        outputs = _floating(subject, subject.forward(values))
    v_set = {
        name: _masked(cotangents[name].to(y), y) if name in cotangents else torch.zeros_like(y)
        for name, y in outputs.items()
    }
    gradients = [run.backward(_copies(v_set))] if differentiated else []
    return _assembled(subject, values, outputs, [v_set], gradients)


def _assembled(
    subject: Subject,
    values: Mapping[str, Tensor],
    outputs: Mapping[str, Tensor],
    sets: Sequence[Mapping[str, Tensor]],
    gradients: Sequence[Mapping[str, Tensor | None]],
) -> LinearizationPoint:
    y = flatten(outputs)
    flat = [flatten(v_set) for v_set in sets]
    rows = flat[0].unsqueeze(0) if len(flat) == 1 else torch.stack(flat)
    finite: Tensor | None = None
    if not all_finite(y):
        finite = torch.isfinite(y)
        y, rows = y[finite], rows[:, finite]
    return LinearizationPoint(
        subject=subject,
        values=dict(values),
        named_outputs=outputs,
        outputs=y,
        finite=finite,
        cotangents=rows,
        named_cotangents=sets,
        gradients=gradients,
    )


def _floating(subject: Subject, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    floating = {name: y for name, y in outputs.items() if y.is_floating_point() or y.is_complex()}
    if not floating:
        raise SubjectError(f"{subject.name} returned no floating-point tensor, which a gradient needs.")
    return floating


def _copies(cotangents: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: v.clone() for name, v in cotangents.items()}


def flatten(outputs: Mapping[str, Tensor]) -> Tensor:
    """All floating-point tensors of a dictionary as one float64 vector; complex entries become pairs."""
    parts = [_real(y) for y in outputs.values() if y.is_floating_point() or y.is_complex()]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def all_finite(tensor: Tensor) -> bool:
    """Whether no entry is infinite or NaN; one reduction, mostly."""
    total = tensor.sum().item()
    return cmath.isfinite(total) or bool(torch.isfinite(tensor).all())


def _real(y: Tensor) -> Tensor:
    real = torch.view_as_real(y.resolve_conj()) if y.is_complex() else y
    return real.reshape(-1).to(torch.float64)


def _promoted(value: Tensor) -> Tensor:
    if value.is_complex():
        return value.to(torch.complex128)
    return value.to(torch.float64) if value.is_floating_point() else value


def _rounding(y: Tensor) -> Tensor:
    # A small entry beside large ones is often what a cancellation left over: it gets the error of the others.
    size = y.abs().to(torch.float64)
    mean = _mean(size)
    size = size.clamp(min=_OTHERS * mean).mul_(_ROUNDINGS * torch.finfo(y.dtype).eps).add_(torch.finfo(y.dtype).tiny)
    return torch.complex(size, size) if y.is_complex() else size


def _mean(size: Tensor) -> float:
    mean = float(size.mean()) if size.numel() else 0.0
    if not math.isfinite(mean):
        finite = size[torch.isfinite(size)]
        mean = float(finite.mean()) if finite.numel() else 0.0
    return mean if math.isfinite(mean) else 0.0


def _balanced(cotangents: Mapping[str, Tensor], outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    if len(outputs) == 1:
        return dict(cotangents)
    sizes = {name: _mean(y.abs().to(torch.float64)) for name, y in outputs.items()}
    largest = max(sizes.values())
    return {
        name: v * (largest / sizes[name]) if sizes[name] > 1e-100 * largest else v for name, v in cotangents.items()
    }


def _equalised(cotangents: Mapping[str, Tensor], outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    weighted = {}
    for name, v in cotangents.items():
        size = torch.nan_to_num(outputs[name].abs().to(torch.float64), nan=0.0, posinf=0.0)
        mean = _mean(size)
        # An output that is exactly 0 has no magnitude of its own: it gets the typical weight.
        size = torch.where(size == 0, mean, size).clamp_(min=_SMALLEST_SHARE * mean)
        weighted[name] = v * (mean / size).to(v.dtype) if mean else -v
    return weighted


def _masked(v: Tensor, y: Tensor) -> Tensor:
    return v if all_finite(y) else torch.where(torch.isfinite(y), v, torch.zeros_like(v))
