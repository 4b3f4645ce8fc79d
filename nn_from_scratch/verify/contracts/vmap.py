"""`torch.func.vmap` of a subject, and a vmapped backward, beside the loop over the samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nn_from_scratch.verify.contracts import constants
from nn_from_scratch.verify.contracts.baseline_pass import gradients_of, rounding
from nn_from_scratch.verify.contracts.collector import ComparisonCollector, contract
from nn_from_scratch.verify.contracts.transforms import PlainFunction, attempted, plain_function
from nn_from_scratch.verify.guarded import GuardedSubject, unguarded
from nn_from_scratch.verify.results import CheckResult
from nn_from_scratch.verify.subjects.autograd import AutogradRun


@contract(order=244, elsewhere=True, torch_limits=True)
def vmap(collector: ComparisonCollector) -> list[CheckResult]:
    """`torch.func.vmap` over one input and over all, and over cotangents, equals the loop: values and gradients.

    At level "quick" only where a part of the backward was written by hand.
    """
    function = plain_function(collector)
    if isinstance(function, str):
        return collector.not_applicable(function)
    subject = collector.subject
    if isinstance(subject, GuardedSubject) and subject.random:
        return collector.not_applicable("the subject draws random numbers, which vmap draws otherwise than a loop")
    names = [operand.name for operand in function.operands]
    values = collector.base.values
    _over_cotangents(collector, function)
    refusals: list[str] = []
    for mapped in (names, *([name] for name in names if len(names) > 1)):
        dimensions = (0, -1) if all(values[name].dim() for name in mapped) else (0,)
        refusals += [_Mapped(collector, function, tuple(mapped), dimension).compare() for dimension in dimensions]
    refused = [refusal for refusal in refusals if refusal]
    if refused and len(refused) == len(refusals):
        return [*(collector.close("") if collector.compared else []), *collector.not_applicable(refused[0])]
    if refused:  # there is a rule, which does not take all that there is
        collector.limit(refused[0])
    return collector.close("the samples that were tried are outside of what the subject takes")


def _over_cotangents(collector: ComparisonCollector, function: PlainFunction) -> None:
    """Compare a backward of several cotangents at once, `is_grads_batched`, with one of each."""
    base = collector.base
    cotangents = [base.cotangents, collector.other_cotangents()]
    expected = [collector.filled(base.gradients), collector.filled(collector.vjp(cotangents[1]))]
    run = unguarded(collector.subject.run(base.values))
    if not isinstance(run, AutogradRun):
        return
    outputs = [name for name in base.cotangents if run.raw[name].requires_grad]
    if not outputs:
        return
    batched = [torch.stack([row[name] for row in cotangents]) for name in outputs]
    raw, targets = [run.raw[name] for name in outputs], list(run.edges.values())

    def backward() -> Sequence[Tensor | None]:
        return torch.autograd.grad(raw, targets, batched, allow_unused=True, is_grads_batched=True)

    found, refused = attempted(lambda: function.plain.call.within(run, backward))
    if refused:
        collector.limit(f"no vmapped backward (is_grads_batched=True): {refused}")
        return
    for name, gradients in zip(run.edges, found, strict=True):
        for place, right in enumerate(expected):
            each = torch.zeros_like(right[name]) if gradients is None else gradients[place].detach()
            when = f"the gradient differs for cotangent {place} of a vmapped backward (is_grads_batched=True)"
            collector.tensor(name, each, right[name], constants.COMBINED * base.allowed(name), when=when)


@dataclass(frozen=True, eq=False)
class _Mapped:
    """One vmap over some of the inputs, stacked along a dimension, beside the loop.

    The samples are the given values and smaller ones; cotangents of other samples are larger ones.
    """

    collector: ComparisonCollector
    function: PlainFunction
    mapped: tuple[str, ...]
    dimension: int

    def compare(self) -> str:
        """Compare values and gradients; a refusal of torch's or the subject's in words."""
        alone, refused = attempted(self._loop)
        if refused:
            return ""  # these samples are the check's own
        found, refused = attempted(self._vmap)
        if refused:
            return f"no vmap: {refused} ({self._where})"
        outputs, gradients = found
        base = self.collector.base
        for sample, (values, _) in enumerate(alone):
            for name, right in values.items():
                allowed = constants.COMBINED * (base.output_allowed(name) + base.factor * rounding(right))
                when = f"{self._where}, the value of {name} differs from that of sample {sample} alone"
                self.collector.tensor(None, outputs[name][sample], right, allowed, when=when)
        if None in self.collector.results:
            return ""  # where the values differ the gradients do
        for name, gradient in gradients.items():
            rows = [by_name[name] for _, by_name in alone]
            allowed = constants.COMBINED * len(rows) * (base.allowed(name) + base.factor * max(map(rounding, rows)))
            if name in self.mapped:
                found_rows = list(gradient.movedim(self.dimension, 0))
            else:
                found_rows, rows = [gradient], [torch.stack(rows).sum(0)]
            for sample, (each, right) in enumerate(zip(found_rows, rows, strict=True)):
                when = f"{self._where}, the gradient differs from that of sample {sample} alone"
                self.collector.tensor(name, each, right, allowed, when=when)
        return ""

    @property
    def _where(self) -> str:
        return f"under torch.func.vmap over {' and '.join(self.mapped)} in dimension {self.dimension}"

    @property
    def _samples(self) -> list[dict[str, Tensor]]:
        values = self.collector.base.values
        return [{n: values[n] * scale for n in self.mapped} for scale in constants.SCALES_OF_SAMPLES]

    @property
    def _cotangents(self) -> list[dict[str, Tensor]]:
        base = self.collector.base
        return [{n: c * (1 + k) for n, c in base.cotangents.items()} for k in range(len(constants.SCALES_OF_SAMPLES))]

    def _loop(self) -> list[tuple[Mapping[str, Tensor], Mapping[str, Tensor]]]:
        """The outputs and gradients of each sample."""
        results: list[tuple[Mapping[str, Tensor], Mapping[str, Tensor]]] = []
        for sample, cotangents in zip(self._samples, self._cotangents, strict=True):
            run = self.collector.subject.run({**self.collector.base.values, **sample})
            outputs = {name: run.outputs[name].clone() for name in cotangents}
            results.append((outputs, self.collector.filled(gradients_of(run, cotangents))))
        return results

    def _vmap(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The outputs, stacked along dimension 0, and the gradients in the shapes of the inputs."""
        base, names = self.collector.base, [operand.name for operand in self.function.operands]
        samples = self._samples
        leaves = [
            torch.stack([sample[n] for sample in samples], self.dimension)
            if n in self.mapped
            else base.values[n].clone()
            for n in names
        ]
        leaves = [leaf.detach().requires_grad_() for leaf in leaves]

        def call(*tensors: Tensor) -> tuple[Tensor, ...]:
            outputs = self.function(dict(zip(names, tensors, strict=True)))
            return tuple(outputs[name] for name in base.cotangents)

        axes = tuple(self.dimension if name in self.mapped else None for name in names)
        with torch.enable_grad():
            outputs = torch.func.vmap(call, in_dims=axes)(*leaves)
            seeds = [torch.stack([row[name] for row in self._cotangents]) for name in base.cotangents]
            found = torch.autograd.grad(outputs, leaves, seeds, allow_unused=True)
        gradients = {
            name: torch.zeros_like(leaf) if gradient is None else gradient.detach()
            for name, leaf, gradient in zip(names, leaves, found, strict=True)
        }
        return {n: y.detach() for n, y in zip(base.cotangents, outputs, strict=True)}, gradients
