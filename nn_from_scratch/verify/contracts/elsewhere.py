"""The numerical check of a gradient at other values than the given ones, folded into one result.

Values chosen by the verifier are harsher than those of a user: derivatives as large as 1/eps, tails below
every rounding, sums that cancel. So an accusation has to hold in a second, plainer measurement.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify.contracts.baseline import is_finite, rounding_noise
from nn_from_scratch.verify.derivative.gradients import check_gradient
from nn_from_scratch.verify.derivative.linearization import (
    LinearizationPoint,
    flatten,
    magnitude,
    point_at,
    working_values,
)
from nn_from_scratch.verify.derivative.probes import DirectionalProbe, VariedOperand, directional
from nn_from_scratch.verify.protocol import Cotangents, Gradients, Operand, Run, Subject, Traits, Values
from nn_from_scratch.verify.results import CheckContext, CheckResult, Verdict

__all__ = ["Elsewhere", "Relocated"]

_SAME = 1e-3
_STABLE = 1e-2
_PLAIN = 1e-4
_PLAIN_STEPS = (1e-4, 1e-6)


@dataclass
class Elsewhere:
    """Collects what gradient checks at several points found.

    Attributes:
        check: the name of the check that looks there.
        wrong: what is wrong, by tensor.
        decided: where a gradient was found right.
        undecided: where none was, and why.
        skipped: where the subject does not go.
    """

    check: str
    wrong: dict[str | None, CheckResult] = field(default_factory=dict)
    decided: list[str] = field(default_factory=list)
    undecided: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    margin: float = 0.0

    def look(
        self,
        subject: Subject,
        context: CheckContext,
        values: Values,
        where: str,
        *,
        only: Collection[str],
        harsh: bool,
    ) -> None:
        """Check the gradients of some operands at other values.

        A backward that raises there has refused the values, which is loud and so no fault; it is reported.

        Args:
            subject: the subject.
            context: seed, level, factor, deadline.
            values: the other values, by slot.
            where: completes the sentence "the gradient is wrong ...".
            only: the operands whose gradients are looked at.
            harsh: whether the values are of a kind at which an accusation has to hold in a second
                measurement.
        """
        context.require_time()
        moved: Subject = Relocated(subject, values, only=only)
        try:
            outputs = moved.forward({})
        except SubjectError as error:
            self.skipped[where] = str(error)
            return
        if not is_finite(outputs):
            self.skipped[where] = "the forward value is not finite"
            return
        try:
            if harsh and _plainly_right(moved, context):
                self.decided.append(where)
                return
            moved.run({}).backward({n: torch.ones_like(y) for n, y in outputs.items() if y.is_floating_point()})
            results = check_gradient(moved, context)
        except SubjectError as error:
            self.skipped[where] = str(error)
            return
        for result in results:
            if result.verdict is Verdict.WRONG and harsh and not _holds(moved, context, result):
                self.undecided[f"{where}, {result.tensor}"] = (
                    "the difference is within what rounding does to the gradient, or the slope depends on the step"
                )
            elif result.verdict is Verdict.WRONG:
                said = f"the gradient is wrong {where}" + (f": {result.reason}" if result.reason else "")
                self.wrong.setdefault(result.tensor, result.with_fields(check=self.check, reason=said, snippet=None))
            elif result.verdict is Verdict.CORRECT:
                self.decided.append(where)
                self.margin = max(self.margin, result.margin or 0.0)
            elif result.verdict is Verdict.UNDECIDED:
                self.undecided[f"{where}, {result.tensor}"] = result.reason or ""

    def close(self, nothing: str) -> list[CheckResult]:
        """The results; `nothing` is the reason if the subject went nowhere."""
        details = {
            "looked": sorted(set(self.decided)),
            "undecided": self.undecided,
            "skipped": self.skipped,
        }
        if self.wrong:
            return [result.with_fields(details={**result.details, **details}) for result in self.wrong.values()]
        if self.decided:
            return [CheckResult.correct(self.check, margin=self.margin, details=details)]
        if self.undecided:
            reason = "; ".join(f"{where}: {why}" for where, why in self.undecided.items())
            return [CheckResult.undecided(self.check, reason, details=details)]
        return [CheckResult.not_applicable(self.check, nothing, details=details)]


def _plainly_right(moved: Subject, context: CheckContext) -> bool:
    """Whether plain central differences, all tensors moved at once, agree with the gradients to four digits.

    Most values are no trouble, and this shows it in a few forward passes; what it does not show is looked
    into.
    """
    values, _ = working_values(moved)
    point = point_at(moved, values, context)
    if point.finite is not None:
        return False
    lines, analytic, square = [], 0.0, 0.0
    for slot in moved.operands:
        if not slot.differentiable:
            continue
        gradient = point.gradients[0][slot.name]
        x = point.values[slot.name]
        if gradient is None or gradient.shape != x.shape or not bool(torch.isfinite(gradient).all()):
            return False
        u = context.signed(x.shape, "plain", slot.name, device=x.device) * magnitude(x)
        term, size = directional(gradient, u)
        analytic, square = analytic + term, square + size**2
        lines.append((slot.name, u.to(x.dtype)))
    scale = math.sqrt(square)
    for h in _PLAIN_STEPS:
        ends = [
            flatten(moved.forward({**values, **{n: values[n] + sign * h * u for n, u in lines}})) for sign in (1, -1)
        ]
        slope = float(torch.dot(point.cotangents[0], ends[0] - ends[1])) / (2 * h)
        if abs(slope - analytic) <= _PLAIN * scale:
            return True
    return False


def _holds(moved: Subject, context: CheckContext, result: CheckResult) -> bool:
    """Whether plain central differences contradict the gradient at two neighbouring steps, and agree with it at none.

    Steps from a tenth of the tensor's size down to 1e-16 of it. A difference within what one rounding of the
    inputs does to the analytic gradient, or within the rounding of the difference itself, is no
    contradiction.
    """
    values, _ = working_values(moved)
    point = point_at(moved, values, context)
    name = result.tensor
    if name is None:
        return True
    gradient = point.gradients[0][name]
    x = point.values[name]
    if gradient is None:
        gradient = torch.zeros_like(x)
    if gradient.shape != x.shape or not bool(torch.isfinite(gradient).all()):
        return True
    noise = _noise(moved, context, point, name)
    directions = [context.signed(x.shape, "held", name, device=x.device) * magnitude(x)]
    index = None if result.mismatch is None else result.mismatch.index
    if index is not None and len(index) == x.dim():
        single = torch.zeros_like(directions[0])
        single[index] = magnitude(x)
        directions.append(single)
    return any(_contradicts(point, name, u, gradient, noise, context) for u in directions)


def _noise(moved: Subject, context: CheckContext, point: LinearizationPoint, name: str) -> float:
    eps = torch.finfo(torch.float64).eps
    outputs, gradients = point.named_outputs, point.gradients[0]
    found = rounding_noise(moved, point.values, point.named_cotangents[0], outputs, gradients, context, eps=eps)
    return context.factor * found.get(name, 0.0)


def _contradicts(
    point: LinearizationPoint, name: str, u: torch.Tensor, gradient: torch.Tensor, noise: float, context: CheckContext
) -> bool:
    analytic, _ = directional(gradient, u)
    line = DirectionalProbe(VariedOperand.at(point, name, context), u)
    slack = noise * float(u.abs().sum())
    agreeing = 0
    before: float | None = None
    stable = False
    for power in range(1, 17):
        h = 10.0**-power
        slope = (line.change(h) - line.change(-h)) / (2 * h)
        if not math.isfinite(slope):
            before = None
            continue
        size = max(abs(analytic), abs(slope))
        floor = 10 * line.rounding / h
        apart = abs(slope - analytic)
        if apart <= _SAME * size and floor <= _SAME * size:
            agreeing += 1
        if apart > _SAME * size + floor + slack:
            stable = stable or (before is not None and abs(slope - before) <= _STABLE * size + floor)
            before = slope
        else:
            before = None
    return stable and agreeing < 2


class Relocated:
    """The same subject with other values, perhaps of other shapes, in the place of its snapshot.

    Args:
        subject: the subject.
        values: the new starting values; operands that are left out keep theirs.
        only: the operands that are still to be differentiated; None for all that were.
    """

    def __init__(self, subject: Subject, values: Values, *, only: Collection[str] | None = None) -> None:
        self._subject = subject
        self._values = dict(values)
        self.name = subject.name
        self.form = subject.form
        self.notes: tuple[str, ...] = subject.notes
        self.traits: Traits = subject.traits
        self.target: object = subject.target
        self.operands: tuple[Operand, ...] = tuple(
            dataclasses.replace(
                slot,
                value=self._values.get(slot.name, slot.value),
                differentiable=slot.differentiable and (only is None or slot.name in only),
            )
            for slot in subject.operands
        )

    def forward(self, values: Values) -> Mapping[str, Tensor]:
        """See `Subject.forward`."""
        return self._subject.forward({**self._values, **values})

    def run(self, values: Values, *, beside: Run | None = None, frozen: Collection[str] = ()) -> Run:
        """See `Subject.run`."""
        held = values if beside is not None else {**self._values, **values}
        return self._subject.run(held, beside=beside, frozen=frozen)

    def backward_together(self, runs: Sequence[Run], cotangents: Sequence[Cotangents]) -> Gradients:
        """See `Subject.backward_together`."""
        return self._subject.backward_together(runs, cotangents)

    def rebuilt(self, target: object) -> Subject:
        """See `Subject.rebuilt`."""
        return Relocated(self._subject.rebuilt(target), self._values)
