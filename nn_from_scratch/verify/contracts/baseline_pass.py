"""What a subject gives when nothing special is asked of it, and how far rounding alone may move that."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify.context import CheckContext
from nn_from_scratch.verify.contracts import constants
from nn_from_scratch.verify.protocol import Cotangents, Gradients, Run, Subject, Values, starting_values


@dataclass(frozen=True, eq=False, kw_only=True)
class Pass:
    """One forward and backward pass, with fresh copies of everything that came out."""

    values: Values
    cotangents: Cotangents
    outputs: Mapping[str, Tensor]
    gradients: Gradients


@dataclass(frozen=True, eq=False, kw_only=True)
class BaselinePass(Pass):
    """A pass with signed cotangents.

    Attributes:
        noise: How far rounding the inputs and the cotangent moves each gradient (largest entry), and each
            output under the name `"output " + name`.
    """

    noise: Mapping[str, float]
    factor: float

    def allowed(self, name: str) -> float:
        """How far the gradient of an operand may be off when the same is computed in another way."""
        return self.factor * (self.noise.get(name, 0.0) + rounding(self.gradients.get(name)) + self._inside(name))

    def _inside(self, name: str) -> float:
        """One rounding of a product of the cotangent with something of an output's size.

        A gradient that is left over where such products cancel, as in a softmax that is nearly 1, is off by as much.
        """
        gradient = self.gradients.get(name)
        if gradient is None or not gradient.is_floating_point() or not self.values[name].numel():
            return 0.0
        size = min(1.0, largest_entry(self.values[name]) or 1.0)
        products = (largest_entry(c) * largest_entry(self.outputs[n]) for n, c in self.cotangents.items())
        return torch.finfo(gradient.dtype).eps * max(products, default=0.0) / size

    def output_allowed(self, name: str) -> float:
        """The same for an output."""
        return self.factor * (self.noise.get(f"output {name}", 0.0) + rounding(self.outputs.get(name)))

    def has_outputs(self, outputs: Mapping[str, Tensor], *, times: float = 1.0) -> bool:
        """Whether outputs that were computed in another way are these, up to so many allowances."""
        if outputs.keys() != self.outputs.keys():
            return False
        for name, y in self.outputs.items():
            found = outputs[name]
            if found.shape != y.shape:
                return False
            found = found.detach().to(y.device)
            apart = (found.double() - y.double()).masked_fill(found.isnan() & y.isnan(), 0)
            if not largest_entry(apart.nan_to_num(nan=math.inf)) <= times * self.output_allowed(name):
                return False
        return True


def largest_entry(tensor: Tensor) -> float:
    """The largest magnitude in a tensor; 0 for an empty one."""
    return float(tensor.detach().abs().max()) if tensor.numel() else 0.0


def rounding(tensor: Tensor | None) -> float:
    """One rounding of a tensor's largest entry."""
    if tensor is None or not tensor.is_floating_point():
        return 0.0
    info = torch.finfo(tensor.dtype)
    return info.eps * largest_entry(tensor.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)) + info.tiny


def cloned(tensors: Mapping[str, Tensor | None]) -> dict[str, Tensor | None]:
    """Contiguous copies that share no memory."""
    return {name: None if t is None else t.detach().clone() for name, t in tensors.items()}


def draw_cotangents(outputs: Mapping[str, Tensor], context: CheckContext, *names: object) -> dict[str, Tensor]:
    """Signed cotangents for the real floating-point outputs."""
    return context.cotangents({name: y for name, y in outputs.items() if y.is_floating_point()}, *names)


def gradients_of(run: Run, cotangents: Cotangents) -> dict[str, Tensor | None]:
    """Copies of the gradients of a run; the cotangents are copied first."""
    return cloned(run.backward({name: c.clone() for name, c in cotangents.items()}))


def is_finite(tensors: Mapping[str, Tensor | None]) -> bool:
    """Whether no real or complex entry is infinite or NaN."""
    return all(bool(torch.isfinite(t).all()) for t in tensors.values() if t is not None)


def baseline_pass(
    subject: Subject, context: CheckContext, *names: object, values: Values | None = None
) -> BaselinePass:
    """Run a subject at its starting values (or others) with a signed cotangent."""
    held = {**starting_values(subject), **(values or {})}
    run = subject.run(held)
    outputs = {name: y.detach().clone() for name, y in run.outputs.items()}
    cotangents = draw_cotangents(outputs, context, "baseline", *names)
    done = Pass(values=held, cotangents=cotangents, outputs=outputs, gradients=gradients_of(run, cotangents))
    usual = not names and not values
    noise = context.measured.get(subject) if usual else None
    if noise is None:
        noise = rounding_noise(subject, done, context)
        if usual:
            context.measured[subject] = noise
    return BaselinePass(**vars(done), noise=noise, factor=context.factor)


def rounding_noise(
    subject: Subject, done: Pass, context: CheckContext, *, eps: float | None = None
) -> dict[str, float]:
    """How far the gradients and outputs of a pass move when each differentiable entry is rounded.

    Entries shrink by up to two eps, so that a value at the edge of a domain (a probability of 1) stays
    inside. Equal entries shrink alike, wherever they stand: a tie stays a tie, as it does in both of the passes
    that are compared. A backward that is as stable as its inputs allow is off by a small multiple of this. Cotangents
    are scaled a little more, and the gradients back: where g a - g cancels, both terms move by the same whole units.

    Args:
        done: the pass without that rounding.
        eps: size of the rounding; by default that of each tensor's dtype.
    """
    noise: dict[str, float] = {}
    differentiable = {operand.name for operand in subject.operands if operand.differentiable}

    def rounded(tensor: Tensor, trial: int) -> Tensor:
        size = torch.finfo(tensor.dtype).eps if eps is None else eps
        steps = steps_by_value(tensor, context.generator("rounding", trial), constants.ROUNDINGS_OF_AN_ENTRY)
        return tensor * (1 - steps * size)

    coarsest = max((torch.finfo(c.dtype).eps for c in done.cotangents.values()), default=0.0)
    for trial in range(constants.ROUNDING_TRIALS):
        scale = 1 + math.sqrt(coarsest) * float(1 + torch.rand((), generator=context.generator("scaling", trial)))
        moved = {n: rounded(t, trial) if n in differentiable else t for n, t in done.values.items()}
        try:
            run = subject.run(moved)
            found = run.backward({n: rounded(c, trial) * scale for n, c in done.cotangents.items()})
        except SubjectError:
            continue  # a rounded value left the domain
        for name, y in run.outputs.items():
            _raise_level(noise, f"output {name}", y, done.outputs.get(name))
        for name, gradient in found.items():
            if gradient is not None and gradient.is_floating_point():
                _raise_level(noise, name, gradient.detach().double() / scale, done.gradients.get(name))
    return noise


def steps_by_value(tensor: Tensor, generator: torch.Generator, most: int) -> Tensor:
    """A whole number from 0 to `most` for each entry: at random, but by its value alone."""
    factor = int(torch.randint(2**60, 2**62, (), generator=generator)) | 1
    bits = tensor.detach().to(torch.float64).contiguous().view(torch.int64)
    return (bits * factor).bitwise_right_shift(32).remainder(most + 1).to(tensor)


def _raise_level(noise: dict[str, float], name: str, new: Tensor | None, old: Tensor | None) -> None:
    if new is None or old is None or new.shape != old.shape or new.numel() == 0 or not new.is_floating_point():
        return
    level = largest_entry(new.detach().double() - old.double())
    if math.isfinite(level):
        noise[name] = max(noise.get(name, 0.0), level)


def changed_values(subject: Subject, context: CheckContext, values: Values) -> dict[str, Tensor] | None:
    """Other inputs of the same shapes at which the forward is finite too; None if none was found.

    Tried in this order: the entries in reverse order (any entrywise domain is kept, and so is the definiteness of a
    symmetric matrix), each entry shrunk by a random factor of at least 1/2, all entries halved, the constant inputs
    (integers, masks) in reverse order as well, small numbers in the place of zeros.
    """
    inputs = [operand.name for operand in subject.operands if operand.role == "input"]
    moving = {operand.name for operand in subject.operands if operand.differentiable}

    def reversed_(name: str, x: Tensor) -> Tensor:
        return x.flip(tuple(range(x.dim())))

    def shrunk(name: str, x: Tensor) -> Tensor:
        u = torch.rand(x.shape, generator=context.generator("changed", name), dtype=torch.float64)
        return x * (1 + u).to(x) / 2

    def filled(name: str, x: Tensor) -> Tensor:
        small = constants.SMALL_CHANGE * context.signed(x.shape, "changed", name, dtype=x.dtype, device=x.device)
        return torch.where(x == 0, small, x)

    changes: tuple[tuple[Callable[[str, Tensor], Tensor], bool], ...] = (
        (reversed_, True),
        (shrunk, True),
        (lambda name, x: x / 2, True),
        (reversed_, False),
        (filled, True),
    )
    for change, differentiable_alone in changes:
        new = {name: change(name, values[name]) for name in inputs if name in moving or not differentiable_alone}
        if all(torch.equal(value, values[name]) for name, value in new.items()):
            continue
        try:
            outputs = subject.forward({**values, **new})
        except SubjectError:
            continue
        if is_finite(outputs):
            return {**values, **new}
    return None
