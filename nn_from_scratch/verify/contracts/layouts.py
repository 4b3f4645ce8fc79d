"""Tensors of the same values in other memory layouts: transposed, strided with gaps, channels last, expanded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify.contracts.baseline_pass import (
    BaselinePass,
    baseline_pass,
    cloned,
    gradients_of,
    is_finite,
    rounding_noise,
)
from nn_from_scratch.verify.contracts.collector import ComparisonCollector, contract
from nn_from_scratch.verify.results import CheckResult
from nn_from_scratch.verify.subjects.structure import snapshot


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


def _variants(x: Tensor) -> Iterator[tuple[str, Tensor]]:
    """The tensor in the layouts that differ from its own."""
    layouts = []
    if x.dim() >= 2:
        layouts.append(("transposed", _transposed(x)))
    if x.dim() >= 1:
        layouts.append(("strided (every second entry)", _strided(x)))
    if x.dim() in (4, 5):
        memory_format = torch.channels_last if x.dim() == 4 else torch.channels_last_3d
        layouts.append(("channels-last", x.contiguous(memory_format=memory_format)))
    for name, variant in layouts:
        if x.numel() > 1 and (not variant.is_contiguous() or variant.storage_offset() != x.storage_offset()):
            yield name, variant


@contract(order=70, elsewhere=True)
def cotangent_layouts(collector: ComparisonCollector) -> list[CheckResult]:
    """The gradient does not depend on the memory layout of the cotangent.

    Finds a backward that assumes a contiguous cotangent: PyTorch hands over expanded ones after `sum()`,
    transposed ones after a transposition.
    """
    base = collector.base
    for output, cotangent in base.cotangents.items():
        for layout, variant in _variants(cotangent):
            _compare_cotangent(
                collector, base, {**base.cotangents, output: variant}, f"{_with_article(layout)} cotangent"
            )
        if cotangent.numel() > 1:
            constant = cotangent.flatten()[0].expand(cotangent.shape)
            plain = {**base.cotangents, output: constant.contiguous()}
            # Another cotangent, so other rounding: equal terms add up where signed ones cancel.
            equal = replace(base, cotangents=plain, gradients=collector.vjp(plain))
            equal = replace(equal, noise={**base.noise, **rounding_noise(collector.subject, equal, collector.context)})
            _compare_cotangent(collector, equal, {**plain, output: constant}, "an expanded cotangent")
    return collector.close("every cotangent has one entry or none, and so one layout")


def _compare_cotangent(
    collector: ComparisonCollector, base: BaselinePass, cotangents: Mapping[str, Tensor], text: str
) -> None:
    run = collector.subject.run(base.values)
    try:
        found = cloned(run.backward({name: snapshot(c) for name, c in cotangents.items()}))
    except SubjectError as error:
        collector.limit(f"with {text}: {error}")
        return
    when = f"with {text} from that with a contiguous one of the same values"
    collector.gradients(found, base.gradients, base=base, when=when)


@contract(order=80, elsewhere=True, torch_limits=True)
def input_layouts(collector: ComparisonCollector) -> list[CheckResult]:
    """The gradient does not depend on the memory layout of the inputs, where the forward value does not.

    Functions of memory, such as `as_strided`, have another value for other strides: nothing is said of them.
    """
    base = collector.base
    for name in (operand.name for operand in collector.inputs):
        for layout, variant in _variants(base.values[name]):
            _compare_input(collector, base, name, variant, _with_article(layout))
        for expanded, plain in _expanded(collector, name):
            _compare_input(collector, plain, name, expanded, "an expanded")
    return collector.close("no input has more than one entry, and so more than one layout")


def _compare_input(collector: ComparisonCollector, base: BaselinePass, name: str, variant: Tensor, layout: str) -> None:
    """Compare the gradients, if the forward accepts the layout and gives the same value for it."""
    differs = f"for {layout} {name} from that for a contiguous one"
    try:
        run = collector.subject.run({**base.values, name: variant})
        if not base.has_outputs(run.outputs):
            if not collector.context.random:  # which entry gets which random number depends on the layout
                collector.limit(f"the forward value differs {differs}")
            return
        found = gradients_of(run, base.cotangents)
    except SubjectError as error:
        collector.limit(f"for {layout} {name}: {error}")
        return
    collector.gradients(found, base.gradients, base=base, when=differs)


def _expanded(collector: ComparisonCollector, name: str) -> Iterator[tuple[Tensor, BaselinePass]]:
    """The first entry of an input along its longest axis, as if repeated along it, and the baseline at its values.

    Nothing where the axis has one entry, or where equal entries are outside the domain (a singular matrix).
    """
    x = collector.base.values[name]
    if x.dim() == 0 or max(x.shape) < 2 or not x.is_floating_point():
        return
    axis = x.shape.index(max(x.shape))
    expanded = x.narrow(axis, 0, 1).clone().expand(x.shape)
    try:
        plain = baseline_pass(collector.subject, collector.context, "expanded", values={name: expanded.contiguous()})
    except SubjectError:
        return
    if is_finite(plain.outputs) and is_finite(plain.gradients):
        yield expanded, plain


def _with_article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"
