"""Value and gradients against a reference, within what rounding explains.

The bound is measured and not a table: every input, parameter and cotangent of the reference, in float64, is rounded
to the dtype in question a few times; how far that moves a value or a gradient, plus one rounding of its largest entry,
is what a right implementation may be off by, times the verifier's factor. So the bound grows with the number of
products and with the condition of the problem, and with nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from nn_from_scratch.verify import CheckContext, CheckResult, Report, as_subject
from nn_from_scratch.verify.catalogue.building import Prepared, prepare
from nn_from_scratch.verify.catalogue.entries import Spec
from nn_from_scratch.verify.catalogue.precision import dtype_of, rounding_of
from nn_from_scratch.verify.catalogue.trials import Trial
from nn_from_scratch.verify.comparison import compare
from nn_from_scratch.verify.protocol import Subject
from nn_from_scratch.verify.subjects.structure import name_outputs
from nn_from_scratch.verify.verification import environment

__all__ = ["compare_with_reference", "movements"]

Tensors = Mapping[str, Tensor]
# Values by slot and cotangents by output to the outputs, by name, and the gradients, by slot.
Passes = Callable[[Tensors, Tensors], "tuple[Tensors, Mapping[str, Tensor | None]]"]

_ROUNDINGS = 3
_ARGUMENTS_OF_AS_SUBJECT = ("parameters", "mapping", "names", "differentiable", "cache", "form")


def compare_with_reference(
    trial: Trial, spec: Spec, *, seed: int = 0, level: str = "quick", factor: float = 10.0, **options: Any
) -> Report:
    """Hold the value, or the gradients of the inputs or of the parameters, against those of the reference on the CPU.

    Args:
        trial: its check says which of the three.
        spec: its entry.
        seed: of the cotangent and of the roundings.
        level: noted in the report.
        factor: how many times what rounding explains is allowed.
        options: how to adapt the subject, as in `nn_from_scratch.verify.check`.

    Raises:
        SubjectError: the subject is in no form that is known, or raises.
    """
    began = time.monotonic()
    dtype = dtype_of(trial.dtype)
    context = CheckContext(seed=seed, factor=factor)
    adapting = {name: options[name] for name in _ARGUMENTS_OF_AS_SUBJECT if name in options}
    prepared = prepare(spec, trial.case, seed=seed, dtype=dtype, device=trial.device)
    subject = _adapted(spec, prepared, name=trial.subject, **adapting)
    there = {slot.name: slot.value for slot in subject.operands}
    here = {name: value.cpu() for name, value in there.items()}
    with spec.ways[trial.way]() if trial.way else nullcontext():
        run = subject.run(there)
        outputs = {name: y.detach().clone() for name, y in run.outputs.items()}
        cotangents = context.cotangents({name: y.cpu() for name, y in outputs.items()}, "parity")
        gradients = dict(run.backward({name: c.to(trial.device) for name, c in cotangents.items()}))

    # Subjects of its own, because the reference wants one that no pass has touched; in float64 for the bound.
    pristine, exact = (prepare(spec, trial.case, seed=seed, dtype=dtype) for _ in range(2))

    def passes(made: Prepared) -> Passes:
        if spec.reference is not None:
            return lambda values, cotangents: _differentiated(spec, made, subject, values, cotangents)
        itself = _adapted(spec, made, name=trial.subject, **adapting)
        return lambda values, cotangents: _differentiated_by_itself(itself, values, cotangents)

    right, right_gradients = passes(pristine)(here, cotangents)
    moved, moved_gradients = movements(
        passes(exact.exactly()),
        _exact(here),
        _exact(cotangents),
        {slot.name for slot in subject.operands if slot.differentiable},
        eps=rounding_of(trial.dtype),
        context=context,
    )
    if trial.check == "value":
        results = [
            _held(trial, name, outputs.get(name), y, moved.get(name, 0.0), factor) for name, y in right.items()
        ] + [
            CheckResult.wrong("value", name, reason="the reference has no such output")
            for name in outputs.keys() - right.keys()
        ]
    else:
        role = trial.check.removesuffix("_gradient")
        results = [
            _held(
                trial,
                slot.name,
                _or_zeros(gradients.get(slot.name), slot.value),
                _or_zeros(right_gradients.get(slot.name), here[slot.name]),
                moved_gradients.get(slot.name, 0.0),
                factor,
            )
            for slot in subject.operands
            if slot.role == role and slot.differentiable
        ] or [CheckResult.not_applicable(trial.check, f"{trial.subject} has no {role} with a gradient")]
    return Report(
        subject=trial.subject,
        form=subject.form,
        results=tuple(results),
        environment=environment(subject),
        seed=seed,
        level=level,
        seconds=time.monotonic() - began,
    )


def _adapted(spec: Spec, prepared: Prepared, **options: Any) -> Subject:
    subject = prepared.subject if spec.repeatable is None else spec.repeatable(prepared.subject)
    inputs = (x.numpy() if spec.numpy else x for x in prepared.inputs)
    return as_subject(subject, *inputs, *prepared.arguments, keywords=prepared.options or None, **options)


def _differentiated(
    spec: Spec, prepared: Prepared, subject: Subject, values: Tensors, cotangents: Tensors
) -> tuple[Tensors, Mapping[str, Tensor | None]]:
    """Outputs and gradients of the reference, by autograd."""
    assert spec.reference is not None
    leaves = {
        slot.name: values[slot.name].clone().requires_grad_(slot.differentiable)
        for slot in subject.operands
        if slot.role == "input"
    }
    parameters = {
        slot.name: values[slot.name].clone().requires_grad_(slot.differentiable)
        for slot in subject.operands
        if slot.role == "parameter"
    }
    with torch.enable_grad():
        raw = spec.reference(prepared.subject, parameters, *leaves.values(), *prepared.arguments, **prepared.options)
        outputs = name_outputs(raw, f"the reference of {spec.name}")
    wanted = {name: x for name, x in {**leaves, **parameters}.items() if x.requires_grad}
    roots = {name: y for name, y in outputs.items() if y.requires_grad and name in cotangents}
    gradients: tuple[Tensor | None, ...] = (None,) * len(wanted)
    if roots and wanted:
        seeds = [cotangents[name].to(y.dtype) for name, y in roots.items()]
        gradients = torch.autograd.grad(list(roots.values()), list(wanted.values()), seeds, allow_unused=True)
    return {name: y.detach() for name, y in outputs.items()}, dict(zip(wanted, gradients, strict=True))


def _differentiated_by_itself(
    subject: Subject, values: Tensors, cotangents: Tensors
) -> tuple[Tensors, Mapping[str, Tensor | None]]:
    run = subject.run(values)
    outputs = {name: y.detach().clone() for name, y in run.outputs.items()}
    return outputs, run.backward({name: c.to(outputs[name].dtype) for name, c in cotangents.items()})


def movements(
    passes: Passes,
    values: Tensors,
    cotangents: Tensors,
    differentiable: set[str],
    *,
    eps: float,
    context: CheckContext,
) -> tuple[dict[str, float], dict[str, float]]:
    """How far rounding moves outputs and gradients, in their largest entry.

    Args:
        passes: gives outputs and gradients for values and cotangents.
        values, cotangents: in float64.
        differentiable: the names of the values that are rounded.
        eps: the distance of neighbouring numbers, relative to them.
        context: for the draws.

    Returns:
        For each output and each gradient the larger of two: how far rounding at eps moves it, and how far rounding in
        float64 does, scaled to eps; the latter sees what is lost inside.
    """
    outputs, gradients = passes(values, cotangents)
    finest = torch.finfo(torch.float64).eps
    levels: tuple[dict[str, float], dict[str, float]] = ({}, {})
    for size in {eps, finest}:
        for trial in range(_ROUNDINGS):

            def rounded(name: str, tensor: Tensor, size: float = size, trial: int = trial) -> Tensor:
                draw = context.generator("rounding", name, trial)
                # Towards zero by up to two roundings, so that what lies at the edge of a domain stays inside.
                shrink = torch.randint(0, 3, tensor.shape, generator=draw).to(tensor) * size
                return tensor * (1 - shrink)

            moved = passes(
                {n: rounded(n, t) if n in differentiable else t for n, t in values.items()},
                {n: rounded(n, c) for n, c in cotangents.items()},
            )
            for level, new, old in zip(levels, moved, (outputs, gradients), strict=True):
                for name, tensor in old.items():
                    other = new.get(name)
                    if tensor is not None and other is not None and tensor.numel() and tensor.is_floating_point():
                        distance = float((other - tensor).abs().max()) * (eps / size)
                        level[name] = max(level.get(name, 0.0), distance)
    return levels


def _held(trial: Trial, name: str, found: Tensor | None, right: Tensor, movement: float, factor: float) -> CheckResult:
    check = trial.check
    if found is None:
        return CheckResult.wrong(check, name, reason="the subject has no such output")
    for what, is_, should in (
        ("shape", tuple(found.shape), tuple(right.shape)),
        ("dtype", found.dtype, right.dtype),
        ("device", found.device.type, trial.device),
    ):
        if is_ != should:
            return CheckResult.wrong(check, name, reason=f"the {what} is {is_}, but {should} is expected")
    eps = rounding_of(trial.dtype)
    largest = float(right.detach().abs().max()) if right.numel() else 0.0
    allowed = factor * (movement + eps * largest + torch.finfo(torch.float32).tiny * eps)
    comparison = compare(found.detach(), right, allowed)
    if comparison.mismatch is not None:
        reason = "differs from the reference by more than rounding explains"
        return CheckResult.wrong(check, name, reason=reason, mismatch=comparison.mismatch, margin=comparison.margin)
    return CheckResult.correct(check, name, margin=comparison.margin, resolution=allowed / largest if largest else None)


def _or_zeros(gradient: Tensor | None, like: Tensor) -> Tensor:
    return torch.zeros_like(like) if gradient is None else gradient


def _exact(tensors: Tensors) -> dict[str, Tensor]:
    return {name: x.double() if x.is_floating_point() else x for name, x in tensors.items()}
