"""Where a dimension counts independent samples, the gradients of the samples make up that of the batch."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify.contracts import constants
from nn_from_scratch.verify.contracts.baseline_pass import baseline_pass, gradients_of, is_finite
from nn_from_scratch.verify.contracts.collector import ComparisonCollector, contract
from nn_from_scratch.verify.contracts.samples import Batch, equal_outputs, find_batch, more_samples
from nn_from_scratch.verify.contracts.validity import is_hand_written
from nn_from_scratch.verify.protocol import Gradients, Values
from nn_from_scratch.verify.results import CheckResult

NO_BATCH = "the forward treats no dimension of its inputs as independent samples (measured)"


@contract(order=180, elsewhere=True, torch_limits=True)
def batch_consistency(collector: ComparisonCollector) -> list[CheckResult]:
    """Per-sample gradients add up to the batch's, the order of samples is immaterial, and N = 0 and N = 1 work.

    Only where measurement shows that the forward treats a dimension as independent samples: dimension 0, or what the
    option `batch` says, a name of an input, names, or a mapping of names to dimensions. An input of one sample is
    extended to a batch of two first.
    """
    if not any(operand.differentiable and operand.value.dim() for operand in collector.inputs):
        return collector.not_applicable("no differentiable input has a dimension that could count samples")
    batch = find_batch(collector)
    if batch is None:
        return collector.not_applicable(NO_BATCH)
    if batch.size == 1:
        values = more_samples(collector, batch.dimensions)
        extended = values and baseline_pass(collector.subject, collector.context, "batch of two", values=values)
        if not extended or not is_finite(extended.outputs) or not is_finite(extended.gradients):
            return collector.not_applicable("the batch has one sample, and no second one was found")
        collector.base, batch = extended, replace(batch, size=2)
    collector.details["batched"] = sorted(batch.dimensions)
    _by_sample(collector, batch)
    _reordered(collector, batch)
    if collector.results and not batch.holds_nearby(collector, collector.base.values):
        collector.results.clear()
        return collector.not_applicable(NO_BATCH)
    _empty(collector, batch)
    return collector.close("no gradient was compared")


def _compare(collector: ComparisonCollector, values: Values, found: Gradients, right: Gradients, when: str) -> None:
    """Compare gradients at values of another batch size than the operands' own."""
    for name in found:
        got, expected = (torch.zeros_like(values[name]) if g is None else g for g in (found[name], right[name]))
        collector.tensor(name, got, expected, collector.base.allowed(name), when=when)


def _by_sample(collector: ComparisonCollector, batch: Batch) -> None:
    """Compare the sum of the parameters' gradients over samples, and the rows of the inputs' gradients."""
    base = collector.base
    count = min(batch.size, constants.MOST_SAMPLES)

    def part(samples: slice) -> tuple[dict[str, Tensor], dict[str, Tensor | None]] | None:
        """Outputs and gradients for some samples; None if their outputs are not their part of the whole ones."""
        run = collector.subject.run(batch.select(base.values, samples))
        for name, y in batch.outputs_of(base.outputs, samples).items():
            if not equal_outputs(collector, name, run.outputs[name], y):
                return None
        outputs = {name: y.detach().clone() for name, y in run.outputs.items()}
        return outputs, gradients_of(run, batch.cotangents_of(base.cotangents, samples))

    # Of a batch of all samples the gradients are known.
    whole = (base.outputs, base.gradients) if count == batch.size else part(slice(0, count))
    singles = [single for i in range(count) if (single := part(slice(i, i + 1))) is not None]
    if whole is None or len(singles) < count:
        return
    for name, relation in batch.relations.items():
        if not isinstance(relation, int):
            # Where the first and all others have the same signs, a kinked function of a sum adds up by chance.
            total = torch.stack([outputs[name] for outputs, _ in singles]).sum(dim=0)
            if not equal_outputs(collector, name, whole[0][name], total / (count if relation == "mean" else 1)):
                return
    together = whole[1]
    joined: dict[str, Tensor | None] = {}
    for name in together:
        parts = [g for _, single in singles if (g := single[name]) is not None]
        if len(parts) < count:
            joined[name] = None
        elif name in batch.dimensions:
            joined[name] = torch.cat(parts, batch.dimensions[name])
        else:
            joined[name] = torch.stack(parts).sum(dim=0) if all(p.shape == parts[0].shape for p in parts) else parts[0]
    when = f"the gradient of a batch of {count} is not made up of the gradients of its samples (N = 1 each)"
    _compare(collector, batch.select(base.values, slice(0, count)), together, joined, when)


def _reordered(collector: ComparisonCollector, batch: Batch) -> None:
    base, size = collector.base, batch.size
    order = torch.randperm(size, generator=collector.context.generator("order of samples"))
    if bool((order == torch.arange(size)).all()):
        order = order.flip(0)
    found = collector.vjp(batch.cotangents_of(base.cotangents, order), batch.select(base.values, order))
    right = batch.select({name: g for name, g in base.gradients.items() if g is not None}, order)
    missing = dict.fromkeys(name for name, g in base.gradients.items() if g is None)
    _compare(collector, base.values, found, {**right, **missing}, "the gradient depends on the order of the samples")


def _empty(collector: ComparisonCollector, batch: Batch) -> None:
    """What happens to a batch of no samples: a limit at most."""
    base, none = collector.base, slice(0, 0)
    if not is_hand_written(collector.subject):
        # Some of its kernels look at no sizes, and what is at fault then is not the subject.
        collector.details["N = 0"] = "the backward is PyTorch's own"
        return
    values = batch.select(base.values, none)
    try:
        outputs = collector.subject.forward(values)
    except SubjectError as error:
        collector.details["N = 0"] = f"the forward refuses it: {error}"
        return
    axes = [(outputs[name], axis) for name, axis in batch.relations.items() if isinstance(axis, int)]
    if any(axis >= y.dim() or y.shape[axis] for y, axis in axes):
        collector.details["N = 0"] = "the forward gives no empty output"
        return
    try:
        found = collector.vjp(batch.cotangents_of(base.cotangents, none), values)
    except SubjectError as error:
        collector.limit(f"at N = 0, which the forward accepts, {error}")
        return
    for name, gradient in found.items():
        if gradient is None:
            continue
        if gradient.shape != values[name].shape:
            shapes = f"{tuple(gradient.shape)} instead of {tuple(values[name].shape)}"
            collector.limit(f"at N = 0 the gradient of {name} has shape {shapes}")
        elif bool((gradient != 0).any()):
            collector.limit(f"at N = 0 the gradient of {name} is not zero")
        else:
            collector.agreed()
