"""Tensors of the same values in other memory layouts: transposed, strided with gaps, channels last, expanded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify.contracts.baseline import Baseline, baseline, cloned, is_finite, rounding_noise
from nn_from_scratch.verify.contracts.collector import ComparisonCollector, contract, usable_baseline
from nn_from_scratch.verify.protocol import Subject
from nn_from_scratch.verify.results import CheckContext, CheckResult
from nn_from_scratch.verify.subjects.structure import snapshot

__all__ = ["cotangent_layouts", "input_layouts"]


def _transposed(x: Tensor) -> Tensor:
    backwards = tuple(reversed(range(x.dim())))
    return x.permute(backwards).contiguous().permute(backwards)


def _strided(x: Tensor) -> Tensor:
    """Every second entry of the last axis of a larger tensor; the gaps hold what nobody may read (NaN)."""
    shape = (*x.shape[:-1], 2 * x.shape[-1] + 1)
    gap = float("nan") if x.is_floating_point() or x.is_complex() else 0
    larger = torch.full(shape, gap, dtype=x.dtype, device=x.device)
    larger[..., 1::2] = x
    return larger[..., 1::2]


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last if x.dim() == 4 else torch.channels_last_3d)


def _variants(x: Tensor) -> Iterator[tuple[str, Tensor]]:
    if x.dim() >= 2:
        yield "transposed", _transposed(x)
    if x.dim() >= 1:
        yield "strided (every second entry)", _strided(x)
    if x.dim() in (4, 5):
        yield "channels-last", _channels_last(x)


def _different(variant: Tensor, x: Tensor) -> bool:
    return variant.numel() > 1 and (not variant.is_contiguous() or variant.storage_offset() != x.storage_offset())


@contract("cotangent_layouts")
def cotangent_layouts(subject: Subject, context: CheckContext) -> list[CheckResult]:
    """The gradient does not depend on the memory layout of the cotangent.

    Finds a backward that assumes a contiguous cotangent: PyTorch hands over expanded ones after `sum()`,
    transposed ones after a transposition.
    """
    check = "cotangent_layouts"
    base = usable_baseline(subject, context, check)
    if isinstance(base, list):
        return base
    findings = ComparisonCollector(check, subject.operands)
    for output, cotangent in base.cotangents.items():
        for text, variant in _variants(cotangent):
            if _different(variant, cotangent):
                _compare(
                    subject,
                    context,
                    findings,
                    base,
                    {**base.cotangents, output: variant},
                    f"{text} cotangent",
                )
        if cotangent.numel() > 1:
            constant = cotangent.flatten()[0].expand(cotangent.shape)
            plain = {**base.cotangents, output: constant.contiguous()}
            expected = cloned(subject.run(base.values).backward({n: c.clone() for n, c in plain.items()}))
            _compare(
                subject,
                context,
                findings,
                base,
                {**plain, output: constant},
                "expanded cotangent",
                expected=expected,
            )
    if findings.compared == 0:
        return [CheckResult.not_applicable(check, "every cotangent has one entry or none, and so one layout")]
    return findings.close("no layout was tried")


def _compare(
    subject: Subject,
    context: CheckContext,
    findings: ComparisonCollector,
    base: Baseline,
    cotangents: Mapping[str, Tensor],
    text: str,
    *,
    expected: Mapping[str, Tensor | None] | None = None,
) -> None:
    if expected is not None:
        # Another cotangent, so other rounding: equal terms add up where signed ones cancel.
        noise = rounding_noise(subject, base.values, cotangents, base.outputs, expected, context)
        base = replace(base, gradients=expected, noise={**base.noise, **noise})
    run = subject.run(base.values)
    try:
        found = cloned(run.backward({name: snapshot(c) for name, c in cotangents.items()}))
    except SubjectError as error:
        findings.wrong(f"with a {text}: {error}")
        return
    findings.gradients(
        found,
        base.gradients,
        lambda name: 2 * base.allowed(name, context.factor),
        when=f"with a {text} from that with a contiguous one of the same values",
    )


@contract("input_layouts")
def input_layouts(subject: Subject, context: CheckContext) -> list[CheckResult]:
    """Value and gradient do not depend on the memory layout of the inputs.

    A forward that refuses a layout with an exception is not wrong, and is reported.
    """
    check = "input_layouts"
    base = usable_baseline(subject, context, check)
    if isinstance(base, list):
        return base
    findings = ComparisonCollector(check, subject.operands)
    refused: list[str] = []
    for slot in subject.operands:
        if slot.role != "input":
            continue
        x = base.values[slot.name]
        for text, variant in _variants(x):
            if _different(variant, x):
                problem = _compare_input(subject, context, findings, base, slot.name, variant, text)
                if problem:
                    refused.append(problem)
        expanded = _expanded(x)
        if expanded is not None:
            problem = _compare_expanded(subject, context, findings, slot.name, expanded)
            if problem:
                refused.append(problem)
    if refused:
        findings.details["refused"] = refused
    if findings.compared == 0 and not refused:
        return [CheckResult.not_applicable(check, "no input has more than one entry, and so more than one layout")]
    return findings.close(f"the forward refuses every other layout ({'; '.join(refused)})")


def _compare_input(
    subject: Subject,
    context: CheckContext,
    findings: ComparisonCollector,
    base: Baseline,
    name: str,
    variant: Tensor,
    text: str,
) -> str | None:
    try:
        run = subject.run({**base.values, name: variant})
    except SubjectError as error:
        return f"{text} {name}: {error}"
    for output, y in run.outputs.items():
        findings.tensor(
            output,
            y,
            base.outputs[output],
            2 * base.output_allowed(output, context.factor),
            when=f"the forward value differs for a {text} {name} from that for a contiguous one",
        )
    found = cloned(run.backward({n: c.clone() for n, c in base.cotangents.items()}))
    findings.gradients(
        found,
        base.gradients,
        lambda slot: 2 * base.allowed(slot, context.factor),
        when=f"for a {text} {name} from that for a contiguous one",
    )
    return None


def _expanded(x: Tensor) -> Tensor | None:
    """The first entry along the longest axis, as if repeated along it."""
    if x.dim() == 0 or max(x.shape) < 2 or not x.is_floating_point():
        return None
    axis = x.shape.index(max(x.shape))
    return x.narrow(axis, 0, 1).clone().expand(x.shape)


def _compare_expanded(
    subject: Subject, context: CheckContext, findings: ComparisonCollector, name: str, expanded: Tensor
) -> str | None:
    try:
        plain = baseline(subject, context, "expanded", values={name: expanded.contiguous()})
    except SubjectError:
        return None  # equal entries lie outside the domain (a singular matrix); that says nothing about layouts
    if not is_finite(plain.outputs) or not is_finite(plain.gradients):
        return None
    return _compare_input(subject, context, findings, plain, name, expanded, "expanded")
