"""What a subject gives when nothing special is asked of it, and how far rounding alone may move that."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify.protocol import Cotangents, Gradients, Operand, Subject, Values, starting_values
from nn_from_scratch.verify.results import CheckContext, CheckResult

__all__ = [
    "Baseline",
    "ContractCheck",
    "baseline",
    "changed_values",
    "cloned",
    "fresh_gradients",
    "is_finite",
    "rounding",
    "rounding_noise",
    "seeds_like",
    "zeros_for",
]

ContractCheck = Callable[[Subject, CheckContext], "CheckResult | list[CheckResult]"]

_TRIALS = 3


@dataclass(frozen=True, eq=False, kw_only=True)
class Baseline:
    """One pass at given values, with fresh copies of everything that came out.

    Attributes:
        values: Tensors by slot.
        cotangents: Signed ones, by output.
        outputs: By name.
        gradients: For each differentiable slot.
        noise: How much rounding the inputs and the cotangent moves each gradient (largest entry), and each
            output under the name `"output " + name`.
    """

    values: Mapping[str, Tensor]
    cotangents: Cotangents
    outputs: Mapping[str, Tensor]
    gradients: Gradients
    noise: Mapping[str, float]

    def allowed(self, name: str, factor: float) -> float:
        """How far the gradient of a slot may be off when the same is computed in another way."""
        gradient = self.gradients.get(name)
        return factor * (self.noise.get(name, 0.0) + rounding(gradient))

    def output_allowed(self, name: str, factor: float) -> float:
        """The same for an output."""
        return factor * (self.noise.get(f"output {name}", 0.0) + rounding(self.outputs.get(name)))


def rounding(tensor: Tensor | None) -> float:
    """One rounding of a tensor's largest entry."""
    if tensor is None or tensor.numel() == 0 or not tensor.is_floating_point():
        return 0.0
    largest = float(tensor.detach().abs().nan_to_num(nan=0.0, posinf=0.0).max())
    return torch.finfo(tensor.dtype).eps * largest + torch.finfo(tensor.dtype).tiny


def cloned(tensors: Mapping[str, Tensor | None]) -> dict[str, Tensor | None]:
    """Contiguous copies in memory of their own."""
    return {name: None if t is None else t.detach().clone() for name, t in tensors.items()}


def seeds_like(outputs: Mapping[str, Tensor], context: CheckContext, *names: object) -> dict[str, Tensor]:
    """Signed cotangents for the real floating-point outputs."""
    return context.cotangents({name: y for name, y in outputs.items() if y.is_floating_point()}, *names)


def fresh_gradients(subject: Subject, values: Values, cotangents: Cotangents) -> dict[str, Tensor | None]:
    """Copies of the gradients of a pass of its own; the cotangents are copied first.

    Raises:
        SubjectError: the subject raised.
    """
    run = subject.run(values)
    return cloned(run.backward({name: c.clone() for name, c in cotangents.items()}))


def is_finite(tensors: Mapping[str, Tensor | None]) -> bool:
    """Whether no real or complex entry is infinite or NaN."""
    return all(bool(torch.isfinite(t).all()) for t in tensors.values() if t is not None)


def zeros_for(gradients: Gradients, operands: Collection[Operand]) -> dict[str, Tensor]:
    """The gradients with zeros, of the slot's shape, where there are none."""
    shapes = {slot.name: slot.value for slot in operands}
    return {
        name: torch.zeros_like(shapes[name]) if gradient is None else gradient for name, gradient in gradients.items()
    }


def baseline(subject: Subject, context: CheckContext, *names: object, values: Values | None = None) -> Baseline:
    """Run a subject at its starting values (or others) with a signed cotangent.

    Raises:
        SubjectError: the subject raised.
    """
    held = {**starting_values(subject), **(values or {})}
    run = subject.run(held)
    outputs = {name: y.detach().clone() for name, y in run.outputs.items()}
    cotangents = seeds_like(outputs, context, "baseline", *names)
    gradients = cloned(run.backward({name: c.clone() for name, c in cotangents.items()}))
    noise = rounding_noise(subject, held, cotangents, outputs, gradients, context)
    return Baseline(values=held, cotangents=cotangents, outputs=outputs, gradients=gradients, noise=noise)


def rounding_noise(
    subject: Subject,
    values: Values,
    cotangents: Cotangents,
    outputs: Mapping[str, Tensor],
    gradients: Gradients,
    context: CheckContext,
    *,
    eps: float | None = None,
) -> dict[str, float]:
    """How far gradients and outputs move when each differentiable entry is rounded once.

    Entries shrink by up to one eps, so that a value at the edge of a domain (a probability of 1) stays
    inside. A backward that is as stable as its inputs allow is off by a small multiple of this.

    Args:
        subject: the subject.
        values: tensors by slot.
        cotangents: by output.
        outputs: what came out at `values`.
        gradients: likewise.
        context: for the draws.
        eps: size of the rounding; by default that of each tensor's dtype.
    """
    noise: dict[str, float] = {}
    differentiable = {slot.name for slot in subject.operands if slot.differentiable}

    def rounded(name: str, tensor: Tensor, trial: int) -> Tensor:
        size = torch.finfo(tensor.dtype).eps if eps is None else eps
        draw = context.generator("rounding", name, trial)
        shrink = torch.randint(0, 3, tensor.shape, generator=draw).to(tensor) * size
        return tensor * (1 - shrink)

    for trial in range(_TRIALS):
        moved = {n: rounded(n, t, trial) if n in differentiable else t for n, t in values.items()}
        seeds = {n: rounded(n, c, trial) for n, c in cotangents.items()}
        try:
            run = subject.run(moved)
            found = run.backward(seeds)
        except SubjectError:
            continue  # a rounded value left the domain
        for name, y in run.outputs.items():
            _raise_level(noise, f"output {name}", y, outputs.get(name))
        for name, gradient in found.items():
            _raise_level(noise, name, gradient, gradients.get(name))
    return noise


def _raise_level(noise: dict[str, float], name: str, new: Tensor | None, old: Tensor | None) -> None:
    if new is None or old is None or new.shape != old.shape or new.numel() == 0 or not new.is_floating_point():
        return
    level = float((new.detach().double() - old.double()).abs().max())
    if math.isfinite(level):
        noise[name] = max(noise.get(name, 0.0), level)


def changed_values(subject: Subject, context: CheckContext, values: Values) -> dict[str, Tensor] | None:
    """Other inputs of the same shapes at which the forward is finite too; None if none was found.

    Tried in this order: the entries in reverse order (any entrywise domain is kept, and so is the
    definiteness of a symmetric matrix), each entry shrunk by a factor of its own, all entries shrunk by one
    factor.
    """
    inputs = [slot for slot in subject.operands if slot.role == "input" and slot.differentiable]

    def shrunk(slot: Operand, x: Tensor) -> Tensor:
        u = torch.rand(x.shape, generator=context.generator("changed", slot.name), dtype=torch.float64)
        return x * (0.6 + 0.3 * u).to(x)

    ways: tuple[Callable[[Operand, Tensor], Tensor], ...] = (
        lambda slot, x: x.flip(tuple(range(x.dim()))),
        shrunk,
        lambda slot, x: x * 0.75,
    )
    for way in ways:
        new = {slot.name: way(slot, values[slot.name]) for slot in inputs}
        if all(torch.equal(new[slot.name], values[slot.name]) for slot in inputs):
            continue
        try:
            outputs = subject.forward({**values, **new})
        except SubjectError:
            continue
        if is_finite(outputs):
            return {**values, **new}
    return None
