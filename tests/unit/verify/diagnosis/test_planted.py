"""The catalogue of planted faults: the right name, and never a wrong one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from nn_from_scratch.verify.diagnosis import DiagnosisContext, explain
from nn_from_scratch.verify.diagnosis.hypotheses import HYPOTHESES
from nn_from_scratch.verify.diagnosis.probing import Probes
from nn_from_scratch.verify.diagnosis.problem import pose
from tests.functions import draw
from tests.unit.verify.planted import CATALOGUE, PlantedFault

SEEDS = range(3)


def _given(
    fault: PlantedFault, seed: int, *, noise: float = 0.0, tolerance: float = 1e-9, known: bool = True
) -> dict[str, Any]:
    """The arguments of `explain` for a planted fault; `noise` and `tolerance` are relative to the largest entry."""
    inputs = fault.inputs(seed)
    output = fault.reference(*inputs)
    generator = torch.Generator().manual_seed(seed + 1000)
    g = torch.randn(output.shape, generator=generator, dtype=torch.float64)
    truth = fault.true_gradients(inputs, g)[fault.target]
    wrong = dict(zip(fault.names, fault.backward(g, *inputs), strict=True))[fault.target]
    largest = float(truth.abs().max())
    numeric = truth + noise * largest * (2 * torch.rand(truth.shape, generator=generator, dtype=truth.dtype) - 1)

    def true_gradient(cotangents: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> Tensor:
        changed = (values.get(name, value) for name, value in zip(fault.names, inputs, strict=True))
        return fault.true_gradients(tuple(changed), cotangents["y"])[fault.target]

    context = DiagnosisContext(
        name=fault.target,
        role="parameter" if fault.target in fault.parameters else "input",
        batch_size=len(inputs[0]),
        tensors=dict(zip(fault.names, inputs, strict=True)) if known else {},
        outputs={"y": output} if known else {},
        cotangent=g if known else None,
        forward=(lambda values: {"y": fault.reference(*(values[name] for name in fault.names))}) if known else None,
        numeric_at=true_gradient if known else None,
        numeric_of=fault.true_gradients(inputs, g).get if known else None,
    )
    return {"analytic": wrong, "numeric": numeric, "tolerance": tolerance * largest, "context": context}


@pytest.mark.parametrize("fault", CATALOGUE, ids=str)
@pytest.mark.parametrize("seed", SEEDS)
def test_the_fault_has_its_name(fault: PlantedFault, seed: int) -> None:
    diagnosis = explain(**_given(fault, seed))
    assert diagnosis is not None, "no name"
    assert (diagnosis.kind, fault.mentions in diagnosis.sentence) == (fault.kind, True), diagnosis.sentence


@pytest.mark.parametrize("fault", CATALOGUE, ids=str)
@pytest.mark.parametrize(("noise", "tolerance"), [(1e-8, 1e-7), (3e-6, 1e-5)])
def test_noise_of_finite_differences_changes_no_name(fault: PlantedFault, noise: float, tolerance: float) -> None:
    diagnosis = explain(**_given(fault, 3, noise=noise, tolerance=tolerance))
    assert diagnosis is None or diagnosis.kind in (fault.kind, *fault.also), diagnosis.sentence


@pytest.mark.parametrize("fault", CATALOGUE, ids=str)
def test_without_context_a_name_is_true_or_missing(fault: PlantedFault) -> None:
    diagnosis = explain(**_given(fault, 4, known=False))
    assert diagnosis is None or diagnosis.kind in (fault.kind, *fault.also), diagnosis.sentence


@pytest.mark.parametrize("fault", [fault for fault in CATALOGUE[::6] if fault.kind != "forgotten"], ids=str)
def test_no_hypothesis_proposes_anything_simpler_than_it_says(fault: PlantedFault) -> None:
    problem = pose(**_given(fault, 0))
    probes = Probes(problem)
    for hypothesis in HYPOTHESES if problem.same_shape else ():
        for explanation in hypothesis.propose(problem, probes):
            assert explanation.complexity >= hypothesis.simplest, explanation.kind


def test_the_catalogue_is_wide_and_its_entries_are_distinct() -> None:
    assert len({str(fault) for fault in CATALOGUE}) == len(CATALOGUE) >= 30
    assert len({fault.kind for fault in CATALOGUE}) >= 15
    wanted = {"linear", "conv2d", "conv_transpose2d", "batch_norm", "softmax", "mse", "max_pool2d"}
    assert wanted <= {fault.layer for fault in CATALOGUE}


@pytest.mark.parametrize("fault", CATALOGUE, ids=str)
def test_the_other_gradients_are_right_and_the_autograd_function_gives_the_wrong_one(fault: PlantedFault) -> None:
    inputs = tuple(value.requires_grad_() for value in fault.inputs(5))
    output = fault.reference(*inputs)
    g = draw(*output.shape, seed=6)
    truth = fault.true_gradients(inputs, g)
    if fault.needs_pair:
        given = fault.backward(g, *(value.detach() for value in inputs))
    else:
        given = torch.autograd.grad(fault.function()(*inputs), inputs, g, allow_unused=True)
    for name, gradient in zip(fault.names, given, strict=True):
        same = gradient is not None and gradient.shape == truth[name].shape and torch.allclose(gradient, truth[name])
        assert same == (name != fault.target), name


def test_every_kind_of_the_catalogue_is_documented() -> None:
    page = Path(__file__).parents[4].joinpath("docs", "faults.md").read_text(encoding="utf-8")
    assert [fault.kind for fault in CATALOGUE if f"`{fault.kind}`" not in page] == []
