"""The numerical check of a gradient at other values than the given ones, folded into one result."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from torch import Tensor

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify.context import CheckContext
from nn_from_scratch.verify.contracts import constants
from nn_from_scratch.verify.contracts.baseline_pass import is_finite, largest_entry
from nn_from_scratch.verify.contracts.collector import ComparisonCollector
from nn_from_scratch.verify.contracts.validity import (
    has_value_of,
    is_hand_written,
    is_lipschitz,
    is_smooth_and_wrong,
)
from nn_from_scratch.verify.derivative.gradients import check_gradient
from nn_from_scratch.verify.derivative.linearization import flatten, magnitude, point_at, working_values
from nn_from_scratch.verify.derivative.probes import directional
from nn_from_scratch.verify.protocol import Gradients, Operand, Run, Subject, Values
from nn_from_scratch.verify.results import CheckResult, Verdict


@dataclass
class Elsewhere:
    """Gradient checks at several other values, whose results the collector collects.

    Attributes:
        collector: the check that looks there.
        decided: where a gradient was found right.
        undecided: where that could not be decided, and why.
        skipped: where the subject is not defined.
    """

    collector: ComparisonCollector
    decided: list[str] = field(default_factory=list)
    undecided: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    def look(
        self, values: Values, where: str, *, special: bool = False, extreme: bool = False, meant: bool = True
    ) -> None:
        """Check all gradients at other values.

        A backward that raises there has refused the values, which is loud, and so a limit.

        Args:
            where: completes the sentence "the gradient is wrong ...".
            special: whether these are values that the forward may not be meant for. It is then enough that plain
                central differences agree, and a wrong gradient counts only where the forward is shown to be smooth, or
                to have one-sided derivatives between which the gradient does not lie.
            extreme: whether they are so large that results inside may overflow.
            meant: whether such a gradient is a finding, and not a limit alone.
        """
        collector, context = self.collector, self.collector.context
        context.require_time()
        moved = cast(Subject, Relocated(collector.subject, values))
        try:
            outputs = moved.forward({})
            if not is_finite(outputs):
                self.skipped[where] = "the forward value is not finite"
                return
            if special and not has_value_of(context.option("reference", None), moved, outputs):
                self.skipped[where] = "the forward value differs from the reference"
                return
            if special and _plainly_right(moved, context):
                self.decided.append(where)
                return
            gradients = _backward_of_ones(moved, outputs)
            results = check_gradient(moved, context)
        except SubjectError as error:
            self._refused(moved, where, error)
            return
        for result in results:
            if result.details.get("at_kink"):
                # What a norm of zeros has is a convention of those who meet it; nobody gave this point.
                collector.limit(f"{where}: {result.reason}")
            elif result.verdict is Verdict.CORRECT:
                self.decided.append(where)
                collector.margin = max(collector.margin, result.margin or 0.0)
            elif result.verdict is Verdict.WRONG and (not special or self._is_shown(moved, result, extreme)):
                reason = f"the gradient is wrong {where}" + (f": {result.reason}" if result.reason else "")
                if not meant:
                    collector.limit(reason)
                    continue
                found = {"check": collector.check, "verdict": Verdict.FRAGILE, "reason": reason, "snippet": None}
                collector.results.setdefault(result.tensor, result.with_fields(**found))
            elif result.verdict in (Verdict.WRONG, Verdict.UNDECIDED):
                why = "the forward is not shown to be valid" if result.verdict is Verdict.WRONG else result.reason
                self.undecided[f"{where}, {result.tensor}"] = why or ""
                if result.tensor is not None and not is_finite({"": gradients.get(result.tensor)}):
                    collector.limit(f"{where} the gradient of {result.tensor} is not finite")

    def _is_shown(self, moved: Subject, result: CheckResult, extreme: bool) -> bool:
        """Whether the forward itself is evidence that a gradient is wrong at special values.

        Where all of the backward is PyTorch's own, a finite gradient is what the conventions of its operators make of
        kinks that meet, which nobody here wrote; and one that is not finite is what overflow makes of extreme values.
        """
        name, mismatch = result.tensor, result.mismatch
        if name is None or mismatch is None:
            return False
        context, finite = self.collector.context, math.isfinite(mismatch.analytic)
        if (finite or extreme) and not is_hand_written(moved):
            return False
        if "one_sided_derivatives" in result.details:
            return finite and is_lipschitz(moved, name, context)
        gradient = self.collector.base.gradients.get(name)
        usual = 0.0 if gradient is None else largest_entry(gradient)
        return is_smooth_and_wrong(moved, name, context, usual=usual)

    def _refused(self, moved: Subject, where: str, error: SubjectError) -> None:
        """Something raised: a forward that does has no value there, a backward that does after it is limited."""
        try:
            outputs = moved.forward({})
        except SubjectError:
            self.skipped[where] = str(error)
            return
        try:
            _backward_of_ones(moved, outputs)
        except SubjectError as refusal:
            self.collector.limit(f"{where}: {refusal}")
        else:
            self.skipped[where] = str(error)

    def close(self, nothing: str) -> list[CheckResult]:
        """The results; `nothing` is the reason if the subject is defined nowhere."""
        collector = self.collector
        looked = {"looked": sorted(set(self.decided)), "undecided": self.undecided, "skipped": self.skipped}
        collector.details.update(looked)
        collector.compared = len(self.decided)
        if self.undecided:
            nothing = "; ".join(f"{where}: {why}" for where, why in self.undecided.items())
        return collector.close(nothing)


def _backward_of_ones(moved: Subject, outputs: Mapping[str, Tensor]) -> Gradients:
    return moved.run({}).backward({name: torch.ones_like(y) for name, y in outputs.items() if y.is_floating_point()})


def _plainly_right(moved: Subject, context: CheckContext) -> bool:
    """Whether plain central differences, all tensors moved at once, agree with the gradients to four digits.

    Most gradients are right, and this shows it in a few forward passes.
    """
    values, _ = working_values(moved)
    point = point_at(moved, values, context)
    if point.finite is not None:
        return False
    shapes = {name: y.shape for name, y in point.named_outputs.items()}
    directions: dict[str, Tensor] = {}
    analytic, square = 0.0, 0.0
    for name in (operand.name for operand in moved.operands if operand.differentiable):
        gradient = point.gradients[0][name]
        x = point.values[name]
        if gradient is None or gradient.shape != x.shape or not is_finite({name: gradient}):
            return False
        u = context.signed(x.shape, "plain", name, device=x.device) * magnitude(x)
        term, size = directional(gradient, u)
        analytic, square = analytic + term, square + size * size
        directions[name] = u.to(x.dtype)
    for h in constants.PLAIN_STEPS:
        around = [
            moved.forward({**values, **{n: values[n] + step * u for n, u in directions.items()}}) for step in (h, -h)
        ]
        if any(outputs[name].shape != shape for outputs in around for name, shape in shapes.items()):
            return False  # how many entries there are depends on the values
        ahead, behind = (flatten(outputs) for outputs in around)
        slope = float(torch.dot(point.cotangents[0], ahead - behind)) / (2 * h)
        if abs(slope - analytic) <= constants.PLAIN_DIFFERENCE * math.sqrt(square):
            return True
    return False


class Relocated:
    """A subject with other values, perhaps of other shapes, in the place of its starting values.

    Everything else is the subject's own; empty operands are constant.
    """

    def __init__(self, subject: Subject, values: Values) -> None:
        self._subject = subject
        self._values = dict(values)
        self.operands: tuple[Operand, ...] = tuple(
            replace(
                operand,
                value=self._values.get(operand.name, operand.value),
                differentiable=operand.differentiable and operand.value.numel() > 0,
            )
            for operand in subject.operands
        )

    def __getattr__(self, name: str) -> Any:
        return getattr(self._subject, name)

    def forward(self, values: Values) -> Mapping[str, Tensor]:
        return self._subject.forward({**self._values, **values})

    def run(self, values: Values, *, beside: Run | None = None, frozen: Collection[str] = ()) -> Run:
        held = values if beside is not None else {**self._values, **values}
        return self._subject.run(held, beside=beside, frozen=frozen)
