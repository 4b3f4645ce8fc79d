"""Value and gradients beside those of a reference, within what rounding explains.

The bound is measured: every input, parameter and cotangent of the reference, in float64, is rounded to the dtype in
question a few times; how far that moves a value or a gradient, plus one rounding of its largest entry, is what a right
implementation may be off by, times the verifier's factor. So the bound grows with the number of products and with the
condition of the problem, and with nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor

from nn_from_scratch.verify import CheckContext, CheckResult, as_subject
from nn_from_scratch.verify.catalogue.building import Prepared, prepare
from nn_from_scratch.verify.catalogue.cases import Spec
from nn_from_scratch.verify.catalogue.rounding import dtype_of, largest, movements, rounding_of
from nn_from_scratch.verify.catalogue.trials import Trial
from nn_from_scratch.verify.comparison import compare
from nn_from_scratch.verify.protocol import Subject
from nn_from_scratch.verify.subjects.structure import name_outputs

Tensors = Mapping[str, Tensor]
# Values by operand and cotangents by output to the outputs, by name, and the gradients, by operand.
Passes = Callable[[Tensors, Tensors], "tuple[Tensors, Mapping[str, Tensor | None]]"]

# At each spacing. Over the engine's catalogue twelve move a result 1.3 times as far as three (the median), and one that
# is a single number at most 3.4 times; the factor covers that, and nothing right comes nearer to the bound than 0.11.
_ROUNDINGS = 3
_ARGUMENTS_OF_AS_SUBJECT = ("parameters", "mapping", "names", "differentiable", "cache", "form")


def compare_with_reference(
    trial: Trial, spec: Spec, *, seed: int = 0, factor: float = CheckContext.factor, **options: Any
) -> tuple[Subject, list[CheckResult]]:
    """Compare the value, or the gradients of the inputs or of the parameters, with those of the reference on the CPU.

    Args:
        trial: its check says which of the three.
        seed: of the cotangent and of the roundings.
        factor: how many times what rounding explains is allowed.
        options: how to adapt the subject, as in `nn_from_scratch.verify.check`.

    Returns:
        The subject, and a result for each output or operand.

    Raises:
        SubjectError: the subject is in no form that is known, or raises.
    """
    dtype = dtype_of(trial.dtype)
    context = CheckContext(seed=seed, factor=factor)
    adapting = {name: options[name] for name in _ARGUMENTS_OF_AS_SUBJECT if name in options}

    def adapted(prepared: Prepared) -> Subject:
        return as_subject(*prepared.call(spec), keywords=prepared.options or None, name=trial.subject, **adapting)

    subject = adapted(prepare(spec, trial.case, seed=seed, dtype=dtype, device=trial.device))
    there = {operand.name: operand.value for operand in subject.operands}
    here = {name: value.cpu() for name, value in there.items()}
    with spec.variants[trial.variant]() if trial.variant else nullcontext():
        run = subject.run(there)
        outputs = {name: y.detach().clone() for name, y in run.outputs.items()}
        cotangents = context.cotangents({name: y.cpu() for name, y in outputs.items()}, "parity")
        gradients = dict(run.backward({name: c.to(trial.device) for name, c in cotangents.items()}))

    def passes(prepared: Prepared) -> Passes:
        if spec.reference is None:
            return partial(_differentiated_by_itself, adapted(prepared))
        return partial(_differentiated, spec, prepared, subject)

    # Subjects of its own, because the reference needs one that no pass has touched; in float64 for the bound.
    pristine, exact = (prepare(spec, trial.case, seed=seed, dtype=of) for of in (dtype, torch.float64))
    right, right_gradients = passes(pristine)(here, cotangents)
    moved = _movements(
        passes(exact),
        _exact(here),
        _exact(cotangents),
        {operand.name for operand in subject.operands if operand.differentiable},
        eps=rounding_of(trial.dtype),
        context=context,
    )

    def result(part: str, name: str, found: Tensor | None, expected: Tensor) -> CheckResult:
        return _result(trial, name, found, expected, moved.get((part, name), 0.0), factor)

    if trial.check == "value":
        surplus = [
            CheckResult.wrong("value", name, reason="the reference has no such output")
            for name in outputs.keys() - right.keys()
        ]
        return subject, [result("output", name, outputs.get(name), y) for name, y in right.items()] + surplus
    role = trial.check.removesuffix("_gradient")
    return subject, [
        result(
            "gradient",
            operand.name,
            _or_zeros(gradients.get(operand.name), operand.value),
            _or_zeros(right_gradients.get(operand.name), here[operand.name]),
        )
        for operand in subject.operands
        if operand.role == role and operand.differentiable
    ] or [CheckResult.not_applicable(trial.check, f"{trial.subject} has no {role} with a gradient")]


def _differentiated(
    spec: Spec, prepared: Prepared, subject: Subject, values: Tensors, cotangents: Tensors
) -> tuple[Tensors, Mapping[str, Tensor | None]]:
    """Outputs and gradients of the reference, by autograd."""
    assert spec.reference is not None
    leaves: dict[str, dict[str, Tensor]] = {"input": {}, "parameter": {}}
    for operand in subject.operands:
        if operand.role in leaves:
            leaf = values[operand.name].clone().requires_grad_(operand.differentiable)
            leaves[operand.role][operand.name] = leaf
    inputs, parameters = leaves.values()
    with torch.enable_grad():
        raw = spec.reference(prepared.subject, parameters, *inputs.values(), *prepared.arguments, **prepared.options)
        outputs = name_outputs(raw, f"the reference of {spec.name}")
    wanted = {name: x for name, x in {**inputs, **parameters}.items() if x.requires_grad}
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


def _movements(
    passes: Passes, values: Tensors, cotangents: Tensors, differentiable: set[str], *, eps: float, context: CheckContext
) -> dict[tuple[str, str], float]:
    """How far rounding the differentiable values and the cotangents moves each ("output" or "gradient", name)."""

    def rounded(name: str, x: Tensor, size: float, draw: int) -> Tensor:
        # Towards zero by up to two roundings, so that what lies at the edge of a domain stays inside.
        generator = context.generator("rounding", name, draw)
        return x * (1 - torch.randint(0, 3, x.shape, generator=generator).to(x) * size)

    def results(size: float, draw: int) -> dict[tuple[str, str], Tensor]:
        outputs, gradients = passes(
            {name: rounded(name, x, size, draw) if name in differentiable else x for name, x in values.items()},
            {name: rounded(name, c, size, draw) for name, c in cotangents.items()},
        )
        found = {("gradient", name): g for name, g in gradients.items() if g is not None}
        return found | {("output", name): y for name, y in outputs.items()}

    return movements(results, results(0.0, 0), eps, _ROUNDINGS)


def _result(
    trial: Trial, name: str, found: Tensor | None, expected: Tensor, movement: float, factor: float
) -> CheckResult:
    check = trial.check
    if found is None:
        return CheckResult.wrong(check, name, reason="the subject has no such output")
    for what, is_, should in (
        ("shape", tuple(found.shape), tuple(expected.shape)),
        ("dtype", found.dtype, expected.dtype),
        ("device", found.device.type, trial.device),
    ):
        if is_ != should:
            return CheckResult.wrong(check, name, reason=f"the {what} is {is_}, but {should} is expected")
    eps, size = rounding_of(trial.dtype), largest(expected)
    # One rounding of the smallest normal number, where everything is zero.
    allowed = factor * (movement + eps * size + torch.finfo(torch.float32).tiny * eps)
    comparison = compare(found.detach(), expected, allowed)
    if comparison.mismatch is not None:
        reason = "differs from the reference by more than rounding explains"
        return CheckResult.wrong(check, name, reason=reason, mismatch=comparison.mismatch, margin=comparison.margin)
    return CheckResult.correct(check, name, margin=comparison.margin, resolution=allowed / size if size else None)


def _or_zeros(gradient: Tensor | None, like: Tensor) -> Tensor:
    return torch.zeros_like(like) if gradient is None else gradient


def _exact(tensors: Tensors) -> dict[str, Tensor]:
    return {name: x.double() if x.is_floating_point() else x for name, x in tensors.items()}
