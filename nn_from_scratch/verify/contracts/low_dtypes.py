"""The same backward in float32, bfloat16 and float16, against itself in float64 on the same rounded inputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cached_property

import torch
from torch import Tensor

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify.contracts import constants
from nn_from_scratch.verify.contracts.baseline_pass import (
    Pass,
    draw_cotangents,
    gradients_of,
    is_finite,
    largest_entry,
    rounding_noise,
    steps_by_value,
)
from nn_from_scratch.verify.contracts.collector import ComparisonCollector, contract
from nn_from_scratch.verify.contracts.single_roundings import SingleRoundings
from nn_from_scratch.verify.contracts.validity import is_hand_written
from nn_from_scratch.verify.derivative.linearization import magnitude
from nn_from_scratch.verify.protocol import Subject, starting_values
from nn_from_scratch.verify.results import CheckResult


@contract(order=220, elsewhere=True, torch_limits=True)
def low_precision(collector: ComparisonCollector) -> list[CheckResult]:
    """In each low dtype the gradient is that of float64 on the same rounded inputs, up to what rounding explains.

    The bound is measured, in the largest entry of each tensor: how far one rounding of the inputs and the
    cotangent to that dtype moves the float64 gradient, plus one rounding of the gradient itself; beyond that,
    what single roundings of the results inside explain. Both are multiplied by how much more than they say
    the subject's forward loses in the same dtype. An error beyond that is a limit where a result inside leaves
    the range of the dtype, and where it is erratic, as errors by rounding are. The cotangent is tried with
    random signs and with one sign, as sums of terms of one sign are what stops growing in few digits.
    """
    subject = collector.subject
    if not subject.traits.dtypes:
        return collector.not_applicable(f"this {subject.form} has one dtype")
    start = starting_values(subject)
    if not collector.differentiable:
        return collector.not_applicable("no input and no parameter is a real floating-point tensor")
    skipped: dict[str, str] = {}
    remarks: dict[str, str] = {}
    for name in constants.LOW_DTYPES:
        dtype: torch.dtype = getattr(torch, name)
        if subject.traits.pairs and dtype != torch.float32:
            skipped[name] = "torch can next to nothing with such complex numbers"
            continue
        lost = [n for n, x in start.items() if x.is_floating_point() and _underflows(x, dtype)]
        if lost:
            skipped[name] = f"{', '.join(lost)} underflows"
            continue
        rounded = _cast(start, dtype)
        exact = _cast(rounded, torch.float64)
        try:
            wide = subject.run(exact).outputs
        except SubjectError as error:
            return collector.not_applicable(f"there is no float64 to compare with: {error}")
        if any(y.is_floating_point() and y.dtype != torch.float64 for y in wide.values()):
            return collector.not_applicable("the forward does not compute in float64 on float64 inputs")
        try:
            narrow = subject.forward(rounded)
        except SubjectError as error:
            if subject.traits.devices or dtype != torch.bfloat16:  # which NumPy's arrays do not have
                collector.limit(f"in {name} the forward does not run: {error}")
            else:
                skipped[name] = f"the forward does not run: {error}"
            continue
        drawn = draw_cotangents(wide, collector.context, "low_precision", name)
        if narrow.keys() & drawn and all(narrow[n].dtype == torch.float64 for n in narrow.keys() & drawn):
            remarks[name] = "computes in float64 whatever its inputs are"
        for cotangents in (drawn, {n: c.abs() for n, c in drawn.items()}):
            why = _looked_at(collector, dtype, rounded, exact, _cast(_cast(cotangents, dtype), torch.float64))
            if why:
                skipped[name] = why
    if skipped:
        collector.details["not run"] = skipped
    if remarks:
        collector.details["dtypes"] = remarks
    return collector.close(f"no low dtype could be run ({'; '.join(f'{n}: {why}' for n, why in skipped.items())})")


def _looked_at(
    collector: ComparisonCollector,
    dtype: torch.dtype,
    rounded: Mapping[str, Tensor],
    exact: Mapping[str, Tensor],
    cotangents: Mapping[str, Tensor],
) -> str | None:
    """Compare the passes at the same values in the low dtype and in float64; why not, if they say nothing."""
    subject = collector.subject
    right = _pass(subject, exact, cotangents)
    if not is_finite(right.outputs) or not is_finite(right.gradients):
        return "the float64 value or gradient is not finite"
    try:
        low = _pass(subject, rounded, cotangents)
    except SubjectError as error:
        collector.limit(f"in {str(dtype).removeprefix('torch.')} {error}")
        return None
    return _compare(collector, dtype, right, low)


def _underflows(x: Tensor, dtype: torch.dtype) -> bool:
    return 0 < largest_entry(x) < torch.finfo(dtype).tiny


def _cast(tensors: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    return {name: t.to(dtype) if t.is_floating_point() else t for name, t in tensors.items()}


def _pass(subject: Subject, values: Mapping[str, Tensor], cotangents: Mapping[str, Tensor]) -> Pass:
    run = subject.run(values)
    outputs = {name: y.detach().clone() for name, y in run.outputs.items()}
    cast = {name: c.to(outputs[name].dtype) for name, c in cotangents.items()}
    return Pass(values=values, cotangents=cotangents, outputs=outputs, gradients=gradients_of(run, cast))


def _compare(collector: ComparisonCollector, dtype: torch.dtype, right: Pass, low: Pass) -> str | None:
    """Compare the gradients in a low dtype with those in float64; why not, if the forward has lost its value there."""
    if any(low.outputs[output].shape != y.shape for output, y in right.outputs.items()):
        return "the forward value has another shape there"
    bounds = _Bounds(collector, dtype, right, low)
    info, name = torch.finfo(dtype), str(dtype).removeprefix("torch.")
    for output, y in right.outputs.items():
        if output not in right.cotangents or not y.numel():
            continue
        if not math.isfinite(bounds.off(output)):
            return f"the value of {output} overflows"
        if _underflows(y, dtype):
            return f"the value of {output} underflows"
    if bounds.loss > constants.MOST_FORWARD_LOSS:
        return f"the forward value is off by {bounds.loss:.0f} times what rounding explains"
    for operand, gradient in right.gradients.items():
        found = low.gradients[operand]
        if gradient is None or found is None:
            if gradient is not found:
                there = "missing" if found is None else "there"
                collector.wrong(f"in {name} the gradient is {there}, unlike float64", operand)
            continue
        if largest_entry(gradient) > constants.RANGE_SHARE * info.max:
            continue  # it does not fit, and says so by being infinite
        if not is_finite({operand: found}) and not is_hand_written(collector.subject):
            collector.limit(f"in {name} PyTorch's own backward gives no finite gradient of {operand}")
            continue
        allowed, off = bounds.plain(operand), largest_entry(found.double() - gradient)
        if not off <= allowed:
            allowed = bounds.inside(operand)
        if not off <= allowed:
            if bounds.leaves_range:
                collector.limit(f"in {name} a result inside leaves the range of the dtype, which spoils {operand}")
                continue
            if _erratic(collector, dtype, right, operand, found.double()):
                collector.limit(f"in {name} rounding takes the digits of the gradient of {operand}")
                continue
        when = f"the {name} gradient differs from the float64 one on the same rounded inputs"
        collector.tensor(operand, found.double(), gradient, allowed, when=when)
    return None


def _erratic(collector: ComparisonCollector, dtype: torch.dtype, right: Pass, operand: str, low: Tensor) -> bool:
    """Whether the largest error of a gradient is another one at inputs a few units in the last place away.

    An error by rounding is, where something cancels inside of a kernel; a formula that is wrong has the same there. So
    is one where the float64 gradient is nothing but rounding too, and the error as much larger as the dtype is coarser.
    Equal entries stay equal.
    """
    gradient = right.gradients[operand]
    assert gradient is not None
    error = low - gradient
    place, changed, wide_changes = int(error.abs().argmax()), 0, []
    largest, wide_value = float(error.reshape(-1)[place]), float(gradient.reshape(-1)[place])
    if not math.isfinite(largest):
        return False
    for trial in range(constants.NEIGHBORS):
        generator = collector.context.generator("neighbors", trial)

        def nearby(tensors: Mapping[str, Tensor], generator: torch.Generator = generator) -> dict[str, Tensor]:
            eps, most = torch.finfo(dtype).eps, constants.NEIGHBOR_STEPS
            return {
                name: t * (1 - eps * steps_by_value(t, generator, most)) if t.is_floating_point() else t
                for name, t in tensors.items()
            }

        values, cotangents = (_cast(nearby(tensors), dtype) for tensors in (right.values, right.cotangents))
        wide = _cast(cotangents, torch.float64)
        found = _pass(collector.subject, values, wide).gradients[operand]
        expected = _pass(collector.subject, _cast(values, torch.float64), wide).gradients[operand]
        if found is not None and expected is not None and found.shape == expected.shape == error.shape:
            there = float((found.double() - expected).reshape(-1)[place])
            changed += not abs(there - largest) <= constants.ERRATIC_CHANGE * abs(largest)
            wide_changes.append(abs(float(expected.reshape(-1)[place]) - wide_value))
    lost = sum(change > constants.ERRATIC_CHANGE * abs(wide_value) for change in wide_changes)
    coarser = torch.finfo(dtype).eps / torch.finfo(torch.float64).eps
    explained = collector.context.factor * coarser * max(wide_changes, default=0.0)
    return 2 * max(changed, lost if abs(largest) <= explained else 0) >= constants.NEIGHBORS


class _Bounds:
    """How far the gradients and outputs in a low dtype may be off, in the largest entry of each tensor."""

    def __init__(self, collector: ComparisonCollector, dtype: torch.dtype, right: Pass, low: Pass) -> None:
        self._collector, self._right, self._low = collector, right, low
        self._dtype, self._info = dtype, torch.finfo(dtype)
        self._noise = rounding_noise(collector.subject, right, collector.context, eps=self._info.eps)

    def off(self, output: str) -> float:
        """How far an output is off."""
        return largest_entry(self._low.outputs[output].double() - self._right.outputs[output])

    def _explained(self, key: str, tensor: Tensor) -> float:
        info = self._info
        return self._noise.get(key, 0.0) + info.eps * largest_entry(tensor) + info.tiny * info.eps

    def _largest_loss(self, explained: Callable[[str, Tensor], float]) -> float:
        outputs = [(output, y) for output, y in self._right.outputs.items() if output in self._right.cotangents]
        losses = [self.off(output) / explained(f"output {output}", y) for output, y in outputs if y.numel()]
        return max([1.0, *losses])

    @cached_property
    def loss(self) -> float:
        """How many times more than rounding the inputs explains the forward is off, at least 1."""
        return self._largest_loss(self._explained)

    def plain(self, operand: str, share: float = constants.PLAIN_ROUNDING_SHARE) -> float:
        """What rounding the inputs explains, times the forward's loss and a share of the context's factor."""
        gradient = self._right.gradients[operand]
        assert gradient is not None
        return share * self._collector.context.factor * self.loss * self._explained(operand, gradient)

    @cached_property
    def _inside(self) -> SingleRoundings:
        return SingleRoundings(self._collector.subject, self._right, self._collector.context, self._dtype)

    def inside(self, operand: str) -> float:
        """What rounding the results inside explains as well, times what the forward loses beyond that.

        Of a subject that computes elsewhere than in torch, nothing is known of the inside.
        """
        if not self._collector.subject.traits.devices:  # NumPy's arrays
            unseen = constants.UNSEEN_ROUNDINGS * self._info.eps * self._steepest(operand)
            return self.plain(operand, constants.ROUNDING_SHARE) + unseen

        def explained(key: str, tensor: Tensor) -> float:
            return self._explained(key, tensor) + constants.SPREAD_OF_ROUNDINGS * self._inside.explain(key)

        gradient = self._right.gradients[operand]
        assert gradient is not None
        return max(self.plain(operand), self._largest_loss(explained) * explained(operand, gradient))

    def _steepest(self, operand: str) -> float:
        """The slope that moves an output by its own size while the operand moves by its own, times the cotangent."""
        right = self._right
        sizes = [largest_entry(c) * largest_entry(right.outputs[name]) for name, c in right.cotangents.items()]
        return max(sizes, default=0.0) / magnitude(right.values[operand])

    @property
    def leaves_range(self) -> bool:
        """Whether a result inside is too large for the dtype, or so small that it loses digits.

        A count that is too large is none of these, where a backward is written by hand: it should not be made in it.
        """
        if self._inside.largest_count > self._info.max and is_hand_written(self._collector.subject):
            return False
        return self._inside.largest > self._info.max or self._inside.smallest < self._info.tiny
