"""Values at which formulas break: zeros, ties, thresholds, saturation; and infinity and NaN that must not vanish."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from nn_from_scratch.verify.contracts.baseline import Baseline, fresh_gradients
from nn_from_scratch.verify.contracts.collector import ComparisonCollector, contract, usable_baseline
from nn_from_scratch.verify.contracts.elsewhere import Elsewhere
from nn_from_scratch.verify.protocol import Operand, Subject
from nn_from_scratch.verify.results import CheckContext, CheckResult

__all__ = ["hidden_infinities", "special_values"]

# Where activation functions of common libraries have their kinks.
_THRESHOLDS = (0.0, 1.0, -1.0, 0.5, -0.5, 3.0, -3.0, 6.0)
_SATURATING = (40.0, 2000.0)
_PROBED = 4


def _places(slot: Operand, context: CheckContext) -> Iterator[tuple[str, Tensor]]:
    x = slot.value
    draw = context.generator("special", slot.name)
    if x.numel() > 1:
        some = x.clone()
        some.view(-1)[torch.randperm(x.numel(), generator=draw)[: max(1, x.numel() // 4)].to(x.device)] = 0
        yield "with some entries zero", some
        yield "with equal entries", x.flatten()[0].expand(x.shape).clone()
    yield "with all entries zero", torch.zeros_like(x)
    which = torch.randint(0, len(_THRESHOLDS), x.shape, generator=draw)
    yield "at thresholds of common activations", torch.tensor(_THRESHOLDS, dtype=torch.float64)[which].to(x)
    size = float(x.abs().mean()) or 1.0
    for scale in _SATURATING:
        yield f"with entries of size {scale:g}", x * (scale / size)


@contract("special_values")
def special_values(subject: Subject, context: CheckContext) -> list[CheckResult]:
    """The gradient is right with zeros, ties, entries at common thresholds, and entries that saturate.

    One tensor is moved at a time. A place where the forward raises or is not finite is outside the domain and
    does not count. At a kink the one-sided derivatives bound what is right.
    """
    check = "special_values"
    operands = [slot for slot in subject.operands if slot.differentiable and slot.value.numel()]
    if not operands:
        return [CheckResult.not_applicable(check, "no differentiable tensor has an entry")]
    elsewhere = Elsewhere(check)
    for slot in operands:
        # A divisor of zero shows in the gradient of the dividend too, so all are looked at.
        only = [other.name for other in operands]
        for where, value in _places(slot, context):
            context.require_time()
            elsewhere.look(subject, context, {slot.name: value}, f"for {slot.name} {where}", only=only, harsh=True)
    return elsewhere.close("the forward is not finite at any special value")


@contract("hidden_infinities")
def hidden_infinities(subject: Subject, context: CheckContext) -> list[CheckResult]:
    """A NaN or an infinity in the cotangent reaches every gradient entry that depends on it.

    A backward that clips, zeroes or replaces them hides a training run that diverges.
    """
    check = "hidden_infinities"
    base = usable_baseline(subject, context, check)
    if isinstance(base, list):
        return base
    findings = ComparisonCollector(check, subject.operands)
    for output, cotangent in base.cotangents.items():
        draw = context.generator(check, output)
        for index in torch.randperm(cotangent.numel(), generator=draw)[:_PROBED].tolist():
            _probe(subject, base, output, index, findings)
    if findings.compared == 0:
        return [CheckResult.not_applicable(check, "no gradient depends on the outputs that were tried")]
    return findings.close("no output was tried")


def _probe(subject: Subject, base: Baseline, output: str, index: int, findings: ComparisonCollector) -> None:
    def single(value: float) -> dict[str, Tensor]:
        seeds = {name: torch.zeros_like(c) for name, c in base.cotangents.items()}
        seeds[output].view(-1)[index] = value
        return seeds

    row = fresh_gradients(subject, base.values, single(1.0))
    for bad in (float("nan"), float("inf")):
        seeds = {name: c.clone() for name, c in base.cotangents.items()}
        seeds[output].view(-1)[index] = bad
        found = fresh_gradients(subject, base.values, seeds)
        for name, dependence in row.items():
            gradient = found[name]
            if dependence is None or gradient is None or not dependence.numel():
                continue
            largest = float(dependence.abs().max())
            depends = (
                dependence.abs() > 1e-6 * largest if largest > 0 else torch.zeros_like(dependence, dtype=torch.bool)
            )
            if not bool(depends.any()) or gradient.shape != dependence.shape:
                continue
            hidden = int((depends & torch.isfinite(gradient)).sum())
            if hidden:
                total = int(depends.sum())
                findings.wrong(
                    f"{bad} in one entry of the cotangent of {output} is hidden in {hidden} of the {total} "
                    "entries "
                    "that depend on it",
                    name,
                )
            else:
                findings.agreed()
